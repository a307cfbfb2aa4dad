"""torch.compile beside tamias.accelerate: over an accelerated transformer it changes nothing, inside it is
refused."""

import copy

import pytest
import tamias
import tiny_transformers as tiny
import torch

SMALL = {"attn.mbm": 32, "attn.counts_multiple_of": 1, "mlp.mbm": 32, "mlp.counts_multiple_of": 1}


@pytest.fixture(params=["flux", "wan"])
def family(request):
    torch.compiler.reset()
    return tiny.BLOCK_FAMILIES[request.param]


def call_of(family):
    torch.manual_seed(2)
    return family.inputs(1)


@pytest.mark.filterwarnings("ignore")  # PyTorch's own
def test_a_compiled_transformer_runs_as_without(family):
    model, call = family.model(), call_of(family)
    with tamias.accelerate(model, "demo", overrides=SMALL) as acceleration:
        expected = tiny.denoise(family, model, [call])
        kinds = acceleration.report()["steps"]
        acceleration.reset()
        found = tiny.denoise(family, torch.compile(model, backend="eager"), [call])
        assert acceleration.report()["steps"] == kinds
    assert "sparse" in {step["kind"] for step in kinds}
    torch.testing.assert_close(found, expected, atol=0, rtol=0)


def test_modules_are_not_compiled_while_they_are_accelerated(family):
    model = family.model()
    block = model.get_submodule("blocks.1" if hasattr(model, "blocks") else "transformer_blocks.1")
    with tamias.accelerate(model, "demo", overrides=SMALL):
        for compile_in_place in (model.compile, block.compile, model.compile_repeated_blocks):
            with pytest.raises(
                tamias.UnsupportedError, match=r"compile\(\): not served while tamias.accelerate\(\)"
            ) as error:
                compile_in_place(backend="eager")
            assert "\n" not in str(error.value)
        copied = copy.deepcopy(model)
    copied.compile(backend="eager")
    block.compile(backend="eager")
    with pytest.raises(tamias.UnsupportedError, match="expected a module that is not compiled"):
        tamias.accelerate(model, "demo", overrides=SMALL)


def test_a_compiled_transformer_is_not_accelerated(family):
    compiled = torch.compile(family.model(), backend="eager")
    with pytest.raises(
        tamias.UnsupportedError, match="OptimizedModule: expected a transformer that is not compiled"
    ):
        tamias.accelerate(compiled, "demo")
