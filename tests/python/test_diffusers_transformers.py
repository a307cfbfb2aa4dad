"""Transformers of all families that are served, in small: accelerated with everything full they are the plain
model; with sparse and skipped steps they compute what they should, the same each time."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import tamias
import torch
from tiny_transformers import ALL, ATTENTION_FAMILIES, BLOCK_FAMILIES, attributes, denoise, relative_error

# Every step is full.
FULL = {
    "attn.full_step_every": 1, "attn.first_n_dense_layers": 0, "mlp.is_enabled": True,
    "mlp.full_step_every": 1, "mlp.first_n_dense_layers": 0, "mlp.top_keys": 0.3,
    "step_caching.is_enabled": False, "attn.mbm": 32,
}  # fmt: skip
# Steps 0 and 1 are full, the others sparse.
SPARSE = FULL | {
    "attn.full_step_every": 10, "mlp.full_step_every": 10, "attn.top_keys": 0.1, "attn.counts_multiple_of": 1,
    "mlp.counts_multiple_of": 1,
}  # fmt: skip


def skipping(reuse: str, *steps: int, **more: float) -> dict:
    return {
        "step_caching.is_enabled": True, "step_caching.reuse": reuse,
        "step_caching.skip_step_schedule": set(steps),
    } | more  # fmt: skip


def calls_of(tiny, batch: int, number: int = 2) -> list[dict]:
    torch.manual_seed(2)
    return [tiny.inputs(batch) for _ in range(number)]


def accelerate(model, overrides: dict):
    return tamias.accelerate(model, tamias.SparsityConfig(), overrides=overrides, threads=1)


def kinds(acceleration) -> list[str]:
    return [step["kind"] for step in acceleration.report()["steps"]]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", ALL)
def test_with_everything_full_it_is_the_plain_model(name, batch):
    tiny = ALL[name]
    model, calls = tiny.model(), calls_of(tiny, batch)
    expected = denoise(tiny, model, calls, steps=3)
    before = attributes(model)
    acceleration = accelerate(model, FULL)
    found = denoise(tiny, model, calls, steps=3)
    assert relative_error(found, expected) < 1e-5
    assert kinds(acceleration) == ["full"] * 3
    assert [step["invocations"] for step in acceleration.report()["steps"]] == [2] * 3
    assert acceleration.report()["state_bytes"] > 0
    tamias.restore(model)
    assert attributes(model) == before
    assert torch.equal(denoise(tiny, model, calls, steps=3), expected)


@pytest.mark.parametrize("name", ALL)
def test_sparse_steps_leave_out_what_matters_little(name):
    tiny = ALL[name]
    model, calls = tiny.model(), calls_of(tiny, 3)
    expected = denoise(tiny, model, calls)
    acceleration = accelerate(model, SPARSE)
    found = denoise(tiny, model, calls)
    report = acceleration.report()
    assert kinds(acceleration) == ["full", "full"] + ["sparse"] * 4
    assert report["attention_sparsity"] > 0.15
    assert (report["mlp_sparsity"] > 0.3) == (name in BLOCK_FAMILIES)
    assert 1e-5 < relative_error(found, expected) < 0.3
    # A second generation begins anew, of itself.
    assert torch.equal(denoise(tiny, model, calls), found)
    assert kinds(acceleration) == ["full", "full"] + ["sparse"] * 4


@pytest.mark.parametrize("name", ALL)
def test_items_of_a_batch_are_what_they_are_alone(name):
    tiny = ALL[name]
    model = tiny.model()
    (call,) = calls_of(tiny, 2, number=1)
    # Everything of the second item; the text of Z-Image is of another length.
    alone = {
        k: v[1:] if isinstance(v, list) or getattr(v, "shape", (0,))[0] == 2 else v for k, v in call.items()
    }
    with accelerate(model, SPARSE | {"mlp.is_enabled": False}):
        both = denoise(tiny, model, [call])
        one = denoise(tiny, model, [alone])
    assert relative_error(both[:, 1:], one) < 1e-4


@pytest.mark.parametrize("reuse", ["prediction", "extrapolate"])
@pytest.mark.parametrize("name", ALL)
def test_skipped_steps_reuse_predictions(name, reuse):
    tiny = ALL[name]
    model, calls = tiny.model(), calls_of(tiny, 2)
    acceleration = accelerate(model, FULL | skipping(reuse, 2, 4))
    found = denoise(tiny, model, calls)
    assert kinds(acceleration) == ["full", "full", "skip", "full", "skip", "full"]
    for invocation in (0, 1):
        first, second, third = found[invocation::2][:3]
        slope = (tiny.times[2] - tiny.times[1]) / (tiny.times[1] - tiny.times[0])
        expected = second if reuse == "prediction" else second + slope * (second - first)
        assert relative_error(third, expected) < 1e-5


@pytest.mark.parametrize("name", BLOCK_FAMILIES)
def test_skipped_steps_run_the_last_layer_over_the_hidden_state(name):
    tiny = BLOCK_FAMILIES[name]
    model, calls = tiny.model(), calls_of(tiny, 2)
    last_inputs = []
    hook = model.norm_out.register_forward_pre_hook(lambda module, args: last_inputs.append(args[0].clone()))
    acceleration = accelerate(model, FULL | skipping("hidden", 2, 4))
    found = denoise(tiny, model, calls)
    hook.remove()
    assert kinds(acceleration) == ["full", "full", "skip", "full", "skip", "full"]
    for invocation in (0, 1):
        hidden = last_inputs[invocation::2]
        assert torch.equal(hidden[2], hidden[1]) and not torch.equal(hidden[3], hidden[2])
        predictions = found[invocation::2]
        assert not torch.equal(predictions[2], predictions[1])  # another step's modulation


@pytest.mark.parametrize("reuse", ["hidden", "prediction"])
@pytest.mark.parametrize("name", BLOCK_FAMILIES)
def test_a_threshold_skips_steps_whose_input_hardly_changed(name, reuse):
    tiny = BLOCK_FAMILIES[name]
    model, calls = tiny.model(), calls_of(tiny, 2)
    dense = {"attn.is_enabled": False, "mlp.is_enabled": False, "step_caching.threshold": 1e-9}
    with accelerate(model, dense | skipping(reuse)) as acceleration:
        expected = denoise(tiny, model, calls)
        assert "skip" not in kinds(acceleration)
    dense["step_caching.threshold"] = 1e5
    with accelerate(model, dense | skipping(reuse)) as acceleration:
        found = denoise(tiny, model, calls)
        assert kinds(acceleration)[1:] == ["skip"] * 5
    assert torch.equal(found[:2], expected[:2])
    assert torch.equal(found[2], found[0]) == (reuse == "prediction")


def test_attention_alone_refuses_what_needs_blocks():
    tiny = ATTENTION_FAMILIES["sd3"]
    model = tiny.model()
    before = attributes(model)
    with pytest.raises(
        tamias.UnsupportedError, match="step_caching.reuse: expected 'prediction' or 'extrapolate'"
    ):
        accelerate(model, skipping("hidden", 2))
    with pytest.raises(tamias.UnsupportedError, match="step_caching.threshold: expected 0"):
        accelerate(model, skipping("prediction") | {"step_caching.threshold": 0.1})
    with pytest.raises(tamias.InvalidArgumentError, match="no profile of its own"):
        tamias.accelerate(model)
    assert attributes(model) == before


@pytest.mark.parametrize("name", [*BLOCK_FAMILIES, "sd3", "z-image"])
def test_bfloat16(name):
    tiny = ALL[name]
    model = tiny.model().to(torch.bfloat16)
    calls = [
        {
            key: value.bfloat16() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
            for key, value in call.items()
        }
        for call in calls_of(tiny, 2)
    ]
    for call in calls:
        for key, value in call.items():
            if isinstance(value, list) and isinstance(value[0], torch.Tensor):
                call[key] = [x.bfloat16() for x in value]
    expected = denoise(tiny, model, calls, steps=3).float()
    with accelerate(model, FULL | skipping("prediction", 2)):
        found = denoise(tiny, model, calls, steps=3)
    assert found.dtype == torch.bfloat16
    assert relative_error(found[:4].float(), expected[:4]) < 0.05
    assert torch.equal(found[4], found[2])
