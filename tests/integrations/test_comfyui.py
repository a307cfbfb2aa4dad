"""The node for ComfyUI (integrations/comfyui) over what stands for ComfyUI's types: results beside plain sampling and
beside sessions of our own, steps, guidance, masks, other nodes, errors."""

import functools
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [
    os.environ.get("TAMIAS_PYTHON", str(ROOT / "build/release/python")),
    str(ROOT / "integrations"),
    str(Path(__file__).parent),
]
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import comfyui_stub as stub  # noqa: E402
import tamias  # noqa: E402
import torch  # noqa: E402
from comfyui import NODE_CLASS_MAPPINGS  # noqa: E402
from comfyui.sampling import Run  # noqa: E402

torch.set_num_threads(1)
MODELS = (stub.Flux, stub.HunyuanVideo, stub.WanModel)
# Groups of 32 queries and single columns, so that small models have something to leave out.
SMALL = (
    "attn.mbm=32",
    "attn.counts_multiple_of=1",
    "attn.first_n_dense_layers=0",
    "attn.local_voxels=0",
    "attn.random_keys=0",
)
SPARSE = (*SMALL, "attn.top_keys=0.3", "attn.full_step_every=4", "attn.full_step_schedule=null")
DIALS = {
    "enabled": True, "profile": "auto", "attention": "on", "top_keys": -1.0, "step_caching": "off", "threshold": 0.1,
    "threads": 1,
}  # fmt: skip


@pytest.fixture(params=MODELS, ids=lambda model: model.__name__)
def model(request):
    torch.manual_seed(1)
    return request.param().eval()


def accelerated(model, settings=SPARSE, patcher=None, **dials):
    patcher = patcher or stub.ModelPatcher(model)
    return NODE_CLASS_MAPPINGS["TamiasAccelerate"]().accelerate(
        patcher, **DIALS | dials, overrides="\n".join(settings)
    )[0]


def report(patcher):
    return patcher.attachments["tamias"].report


def error(found, expected):
    return float((found - expected).norm() / expected.norm())


def plain(model, **options):
    return stub.sample(stub.ModelPatcher(model), stub.noise_of(model), [stub.prompt(1)], **options)


def test_the_dials_are_all_arguments():
    node = NODE_CLASS_MAPPINGS["TamiasAccelerate"]
    inputs = node.INPUT_TYPES()
    names = [*inputs["required"], *inputs["optional"]]
    assert names == list(node.accelerate.__code__.co_varnames[1 : node.accelerate.__code__.co_argcount])
    assert inputs["required"]["profile"][0] == ["auto", *tamias.profiles()]


def test_a_disabled_node_gives_the_model_itself(model):
    patcher = stub.ModelPatcher(model)
    assert accelerated(model, patcher=patcher, enabled=False) is patcher


def test_dense_is_the_plain_result(model):
    patcher = accelerated(model, SMALL, attention="off")
    found = stub.sample(patcher, stub.noise_of(model), [stub.prompt(1)])
    assert error(found, plain(model)) < 1e-5
    assert report(patcher)["steps"] == ["full"] * 8
    assert report(patcher)["attention_sparsity"] == 0


def test_the_model_that_was_given_stays_as_it_is(model):
    patcher = stub.ModelPatcher(model)
    accelerated(model, patcher=patcher)
    assert not patcher.wrappers and not patcher.attachments
    torch.testing.assert_close(
        stub.sample(patcher, stub.noise_of(model), [stub.prompt(1)]), plain(model), atol=0, rtol=0
    )


def test_sparse_steps_leave_columns_out_and_stay_near(model):
    patcher = accelerated(model)
    found = stub.sample(patcher, stub.noise_of(model), [stub.prompt(1)])
    assert report(patcher)["steps"] == [
        "full",
        "full",
        "sparse",
        "sparse",
        "full",
        "sparse",
        "sparse",
        "sparse",
    ]
    assert report(patcher)["attention_sparsity"] > 0.3
    assert 0 < error(found, plain(model)) < 0.05
    # Nothing of the run before is left: the same run gives the same bytes.
    again = stub.sample(patcher, stub.noise_of(model), [stub.prompt(1)])
    torch.testing.assert_close(again, found, atol=0, rtol=0)


def test_attention_is_that_of_a_session(monkeypatch):
    """A loop of our own over FLUX's blocks, with a session in place of attention, is what the node does."""
    torch.manual_seed(1)
    model = stub.Flux().eval()
    patcher = accelerated(model)
    found = stub.sample(patcher, stub.noise_of(model), [stub.prompt(1)])

    config = tamias.SparsityConfig.load("flux-1-dev")
    for setting in (*SPARSE, "mlp.is_enabled=false"):
        config.set(setting)
    session = tamias.SparseSession(
        config, grid=(1, 7, 8), num_layers=4, num_heads=2, head_dim=16, model_dim=32, text_tokens=stub.TEXT_TOKENS,
        mlp_dim=1, mlp_tokens=[0] * 4, prediction_channels=16, threads=1,
    )  # fmt: skip
    rows = stub.TEXT_TOKENS + torch.from_numpy(session.token_order).long()
    order = torch.cat([torch.arange(stub.TEXT_TOKENS), rows])
    calls = []

    def attention(query, key, value, heads, **_):
        layer = len(calls) % 4
        if layer == 0:
            session.begin_step(len(calls) // 4)
        calls.append(layer)
        out = session.attention(layer, *(x[:, :, order].contiguous() for x in (query, key, value)))
        return out[:, :, order.argsort()].transpose(1, 2).flatten(2)

    monkeypatch.setattr(stub, "optimized_attention", attention)
    expected = stub.sample(stub.ModelPatcher(model), stub.noise_of(model), [stub.prompt(1)])
    torch.testing.assert_close(found, expected, atol=0, rtol=0)


@pytest.mark.parametrize("is_batched", [True, False])
def test_guidance_has_a_state_for_each_prompt(model, is_batched):
    prompts = [stub.prompt(1), stub.prompt(2)]
    expected = stub.sample(stub.ModelPatcher(model), stub.noise_of(model), prompts)
    patcher = accelerated(model)
    found = stub.sample(patcher, stub.noise_of(model), prompts, is_batched=is_batched)
    assert len(report(patcher)["steps"]) == 8
    assert 0 < error(found, expected) < 0.1


@pytest.mark.parametrize("reuse", ["hidden", "prediction", "extrapolate"])
def test_skipped_steps_run_no_block(model, reuse):
    settings = (
        *SPARSE,
        "step_caching.is_enabled=true",
        "step_caching.skip_step_schedule=[3,5,6]",
        f"step_caching.reuse={reuse}",
    )
    patcher = accelerated(model, settings, step_caching="profile")
    found = stub.sample(patcher, stub.noise_of(model), [stub.prompt(1)])
    steps = report(patcher)["steps"]
    assert [i for i, kind in enumerate(steps) if kind == "skip"] == [3, 5, 6]
    runs = [block.runs for block in model.modules() if isinstance(block, stub.Block) and block.runs]
    assert runs and set(runs) == {5}
    assert 0 < error(found, plain(model)) < 0.3


def test_a_reused_hidden_state_is_that_of_the_step_before(model):
    """The last layer, which here has no modulation, gives what it gave on the step before."""
    settings = (
        *SMALL,
        "step_caching.is_enabled=true",
        "step_caching.skip_step_schedule=[2]",
        "step_caching.reuse=hidden",
    )
    patcher = accelerated(model, settings, attention="off", step_caching="profile")
    outputs = []
    original = model._forward

    @functools.wraps(original)
    def forward(*args, **kwargs):
        outputs.append(original(*args, **kwargs))
        return outputs[-1]

    model._forward = forward
    stub.sample(patcher, stub.noise_of(model), [stub.prompt(1)], steps=3)
    torch.testing.assert_close(outputs[2], outputs[1], atol=1e-6, rtol=1e-5)
    assert not torch.equal(outputs[1], outputs[0])


def test_a_threshold_skips_where_little_changes(model):
    never = accelerated(model, SPARSE, step_caching="threshold", threshold=0.0)
    found = stub.sample(never, stub.noise_of(model), [stub.prompt(1)])
    assert "skip" not in report(never)["steps"]
    often = accelerated(model, SPARSE, step_caching="threshold", threshold=10.0)
    skipped = stub.sample(often, stub.noise_of(model), [stub.prompt(1)])
    assert report(often)["steps"][0] == "full"
    assert report(often)["steps"].count("skip") >= 5
    assert error(skipped, found) > 0


def test_padded_text_is_left_out():
    torch.manual_seed(1)
    model = stub.HunyuanVideo().eval()
    mask = torch.tensor([[1, 1, 1, 0, 0, 0, 0]])
    expected = plain(model, extra={"attention_mask": mask})
    patcher = accelerated(model, SMALL, attention="off")
    found = stub.sample(patcher, stub.noise_of(model), [stub.prompt(1)], extra={"attention_mask": mask})
    assert error(found, expected) < 1e-5
    with pytest.raises(
        tamias.UnsupportedError, match="attention mask: expected tokens seen or not, found weights"
    ):
        stub.sample(
            patcher, stub.noise_of(model), [stub.prompt(1)],
            extra={"attention_mask": torch.full((1, 7), -0.5)},
        )  # fmt: skip


def test_other_nodes_are_asked(model):
    """Their attention where ours does not apply, their blocks around ours."""
    seen = []

    def theirs(function, *args, **kwargs):
        seen.append(kwargs["transformer_options"].get("block_index"))
        return function(*args, **kwargs)

    def doubled(args, extra):
        result = extra["original_block"](args)
        return result | {"img": 2 * result["img"]}

    patcher = stub.ModelPatcher(model)
    options = patcher.model_options["transformer_options"]
    options["optimized_attention_override"] = theirs
    options["patches_replace"] = {"dit": {("double_block", 0): doubled}}
    expected = stub.sample(patcher, stub.noise_of(model), [stub.prompt(1)])
    seen.clear()
    caching = (
        "step_caching.is_enabled=true",
        "step_caching.reuse=hidden",
        "step_caching.skip_step_schedule=[]",
    )
    found = stub.sample(
        accelerated(model, (*SMALL, *caching), patcher=patcher, attention="off", step_caching="profile"),
        stub.noise_of(model), [stub.prompt(1)],
    )  # fmt: skip
    assert error(found, expected) < 1e-5
    # A text's own attention before the blocks, cross-attention in them.
    expected_calls = {stub.Flux: set(), stub.HunyuanVideo: {None}, stub.WanModel: {0, 1, 2}}
    assert set(seen) == expected_calls[type(model)]


def test_a_second_node_takes_the_place_of_the_first(model):
    first = accelerated(model)
    second = accelerated(model, SMALL, patcher=first, attention="off")
    assert len(second.wrappers_of("diffusion_model")) == 1
    assert error(stub.sample(second, stub.noise_of(model), [stub.prompt(1)]), plain(model)) < 1e-5


def test_what_is_given_up_midway_leaves_nothing(model):
    patcher = accelerated(model)
    accelerator = patcher.attachments["tamias"]

    original = model._forward

    @functools.wraps(original)
    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    model._forward = fail
    with pytest.raises(KeyboardInterrupt):
        stub.sample(patcher, stub.noise_of(model), [stub.prompt(1)])
    model._forward = original
    assert accelerator._run is None
    assert error(stub.sample(patcher, stub.noise_of(model), [stub.prompt(1)]), plain(model)) < 0.05


def test_samplers_that_ask_twice_at_a_noise_level_take_a_step_each_time():
    run = Run()
    calls = [run.invocation_of("prompt", sigma) for sigma in (1.0, 0.5, 0.5, 0.2)]
    assert len(set(map(id, calls))) == 1
    assert run.step == 3
    run.invocation_of("other", 0.2)
    assert run.step == 3


def test_errors_are_one_line(model):
    for dials, kind, text in (
        ({"profile": "flux-1-dex"}, tamias.NotFoundError, "flux-1-dex"),
        ({"top_keys": -0.5}, tamias.InvalidArgumentError, "top_keys: expected -1 or 0 to 1, found -0.5"),
        ({"top_keys": 2.0}, tamias.InvalidArgumentError, "top_keys"),
    ):
        with pytest.raises(kind) as caught:
            accelerated(model, **dials)
        assert text in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(tamias.InvalidArgumentError, match="attn.top_kex"):
        accelerated(model, ("attn.top_kex=1",))
    with pytest.raises(
        tamias.UnsupportedError, match="expected one of Flux, HunyuanVideo, WanModel, found Linear"
    ):
        accelerated(torch.nn.Linear(1, 1))
    with pytest.raises(
        tamias.UnsupportedError,
        match="expected torch.float32 or torch.bfloat16 on the CPU, found torch.float16",
    ):
        stub.sample(accelerated(model), stub.noise_of(model).half(), [stub.prompt(1)])
    old = accelerated(model)
    model._blocks = lambda img, *_: img
    with pytest.raises(tamias.UnsupportedError, match="ComfyUI is too old"):
        stub.sample(old, stub.noise_of(model), [stub.prompt(1)])
