"""An accelerated transformer in use: beside LoRAs, hooks, other processors and ControlNets; which calls are
steps and invocations of one generation; what is refused."""

import copy
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import diffusers
import tamias
import torch
from tiny_transformers import (
    BLOCK_FAMILIES,
    attributes,
    denoise,
    flux_positions,
    make_wan,
    randomised,
    relative_error,
)
from torch.nn import functional

FLUX, WAN, MOCHI = BLOCK_FAMILIES["flux"], BLOCK_FAMILIES["wan"], BLOCK_FAMILIES["mochi"]
# Steps 0 and 1 are full, the others sparse.
SPARSE = {
    "attn.first_n_dense_layers": 0, "attn.mbm": 32, "attn.top_keys": 0.1, "attn.counts_multiple_of": 1,
    "mlp.is_enabled": True, "mlp.first_n_dense_layers": 0, "mlp.top_keys": 0.3, "mlp.counts_multiple_of": 1,
}  # fmt: skip
FULL = SPARSE | {"attn.full_step_every": 1, "mlp.full_step_every": 1}
SKIP = {
    "step_caching.is_enabled": True,
    "step_caching.skip_step_schedule": [2],
    "step_caching.reuse": "prediction",
}


def accelerate(model, overrides):
    return tamias.accelerate(model, tamias.SparsityConfig(), overrides=overrides, threads=1)


def calls_of(tiny, number=2, batch=1):
    torch.manual_seed(2)
    return [tiny.inputs(batch) for _ in range(number)]


def kinds(acceleration) -> list[str]:
    return [step["kind"] for step in acceleration.report()["steps"]]


@pytest.fixture
def flux():
    return FLUX.model()


# What else there is around the model.


def add_lora(model) -> None:
    peft = pytest.importorskip("peft")
    targets = ["to_q", "proj_mlp", "ff.net.2"]  # proj_mlp: of single-stream blocks; ff: of double-stream ones
    torch.manual_seed(3)
    model.add_adapter(peft.LoraConfig(r=2, target_modules=targets, init_lora_weights=False))


def test_a_lora_may_come_before_or_after(flux):
    calls = calls_of(FLUX)
    plain = denoise(FLUX, flux, calls)
    add_lora(flux)
    with_lora = denoise(FLUX, flux, calls)
    assert relative_error(with_lora, plain) > 0.01
    acceleration = accelerate(flux, FULL)  # after the LoRA
    assert relative_error(denoise(FLUX, flux, calls), with_lora) < 1e-5
    flux.unload_lora()
    assert relative_error(denoise(FLUX, flux, calls), plain) < 1e-5
    add_lora(flux)  # after the acceleration
    assert relative_error(denoise(FLUX, flux, calls), with_lora) < 1e-5
    flux.unload_lora()
    acceleration.restore()
    assert torch.equal(denoise(FLUX, flux, calls), plain)


def test_layers_with_a_lora_run_by_their_own_module(flux):
    calls = calls_of(FLUX)
    acceleration = accelerate(flux, SPARSE)
    denoise(FLUX, flux, calls)
    assert acceleration.report()["mlp_sparsity"] > 0.3
    add_lora(flux)
    denoise(FLUX, flux, calls)
    assert acceleration.report()["mlp_sparsity"] == 0 and acceleration.report()["attention_sparsity"] > 0.2
    flux.unload_lora()
    denoise(FLUX, flux, calls)
    assert acceleration.report()["mlp_sparsity"] > 0.3


def test_weights_may_change_between_generations(flux):
    calls = calls_of(FLUX)
    accelerate(flux, SPARSE)
    before = denoise(FLUX, flux, calls)
    with torch.no_grad():
        flux.transformer_blocks[0].ff.net[2].weight.mul_(1.5)
    changed = denoise(FLUX, flux, calls)
    assert relative_error(changed, before) > 1e-3
    accelerate(flux, SPARSE)
    assert torch.equal(denoise(FLUX, flux, calls), changed)


def test_hooks_of_offloading_come_and_go(flux):
    hooks = pytest.importorskip("accelerate.hooks")
    calls = calls_of(FLUX)
    acceleration = accelerate(flux, SPARSE)
    expected = denoise(FLUX, flux, calls)
    acceleration.restore()
    hooks.add_hook_to_module(flux, hooks.AlignDevicesHook(execution_device="cpu"))
    acceleration = accelerate(flux, SPARSE)
    assert torch.equal(denoise(FLUX, flux, calls), expected)
    hooks.remove_hook_from_module(flux, recurse=True)  # as pipelines do when a generation ends
    assert torch.equal(denoise(FLUX, flux, calls), expected) and "sparse" in kinds(acceleration)
    hooks.add_hook_to_module(flux, hooks.AlignDevicesHook(execution_device="cpu"))
    assert torch.equal(denoise(FLUX, flux, calls), expected)
    acceleration.restore()
    assert hasattr(flux, "_hf_hook")


def test_fused_projections_and_other_processors(flux):
    calls = calls_of(FLUX)
    plain = denoise(FLUX, flux, calls)

    class Processor(diffusers.models.transformers.transformer_flux.FluxAttnProcessor):
        """Looks at a picture prompt, too, which is no self-attention."""

        def __call__(self, attn, hidden_states, *args, **kwargs):
            seen = hidden_states[None, :, :5]
            functional.scaled_dot_product_attention(hidden_states[None], seen, seen)
            return super().__call__(attn, hidden_states, *args, **kwargs)

    acceleration = accelerate(flux, FULL)
    flux.fuse_qkv_projections()
    assert relative_error(denoise(FLUX, flux, calls), plain) < 1e-5
    flux.unfuse_qkv_projections()
    flux.set_attn_processor(Processor())
    assert relative_error(denoise(FLUX, flux, calls), plain) < 1e-5
    assert kinds(acceleration) == ["full"] * 6


def test_what_a_controlnet_adds_stays_where_it_belongs(flux):
    (call,) = calls_of(FLUX, 1)
    tokens, width = call["hidden_states"].shape[1], flux.inner_dim
    call["controlnet_block_samples"] = [torch.randn(1, tokens, width) for _ in range(2)]
    call["controlnet_single_block_samples"] = [torch.randn(1, tokens, width) for _ in range(2)]
    plain = denoise(FLUX, flux, [call])
    accelerate(flux, FULL)
    assert relative_error(denoise(FLUX, flux, [call]), plain) < 1e-5
    accelerate(flux, SPARSE)
    assert 1e-5 < relative_error(denoise(FLUX, flux, [call]), plain) < 0.3


def test_a_picture_beside_another_is_a_row_of_tokens(flux):
    (call,) = calls_of(FLUX, 1)
    reference = flux_positions(4, 5)
    reference[:, 0] = 1
    call["img_ids"] = torch.cat([call["img_ids"], reference])
    call["hidden_states"] = torch.randn(1, len(call["img_ids"]), 8)
    plain = denoise(FLUX, flux, [call])
    accelerate(flux, FULL)
    assert relative_error(denoise(FLUX, flux, [call]), plain) < 1e-5


def test_each_token_may_have_a_timestep_of_its_own():
    """As Wan 2.2 has where a picture begins the film."""
    model = WAN.model()
    (call,) = calls_of(WAN, 1)
    call["timestep"] = torch.full((1, 3 * 5 * 6), 700.0)
    call["timestep"][:, : 5 * 6] = 0
    with torch.no_grad():
        plain = model(**call).sample
        accelerate(model, FULL)
        assert relative_error(model(**call).sample, plain) < 1e-5
        threshold = {
            "step_caching.is_enabled": True,
            "step_caching.threshold": 1.0,
            "step_caching.skip_step_schedule": [],
        }
        acceleration = accelerate(model, threshold | {"attn.is_enabled": False, "mlp.is_enabled": False})
        model(**call)
        later = call | {"timestep": call["timestep"] * 0.99, "hidden_states": call["hidden_states"] * 0.999}
        assert model(**later).sample.shape == plain.shape
    assert kinds(acceleration) == ["full", "skip"]


def test_both_transformers_of_a_pipeline_are_accelerated():
    pipeline = SimpleNamespace(transformer=WAN.model(), transformer_2=randomised(make_wan()))
    calls = calls_of(WAN)
    plain = denoise(WAN, pipeline.transformer_2, calls)
    acceleration = accelerate(pipeline, SPARSE)
    assert relative_error(denoise(WAN, pipeline.transformer_2, calls), plain) > 1e-5
    assert acceleration.report()["steps"] == [] and len(acceleration.report()["transformer_2"]["steps"]) == 6
    tamias.restore(pipeline)
    assert torch.equal(denoise(WAN, pipeline.transformer_2, calls), plain)


def test_copies_are_plain(flux):
    calls = calls_of(FLUX)
    plain = denoise(FLUX, flux, calls)
    accelerate(flux, SPARSE)
    assert torch.equal(denoise(FLUX, copy.deepcopy(flux), calls), plain)


# Steps and invocations.


def call_at(model, call, time, latents):
    with torch.no_grad():
        return model(
            **call | {"hidden_states": latents, "timestep": torch.full((len(latents),), time)}
        ).sample


def test_guidance_may_begin_late_and_pause(flux):
    conditional, unconditional = calls_of(FLUX)
    acceleration = accelerate(flux, SPARSE | SKIP | {"step_caching.skip_step_schedule": [2, 4]})
    latents = [torch.randn_like(conditional["hidden_states"]) for _ in range(6)]
    for step, x in enumerate(latents):
        call_at(flux, conditional, 900.0 - step, x)
        if step in (2, 3, 5):
            call_at(flux, unconditional, 900.0 - step, x)
    steps = acceleration.report()["steps"]
    assert [step["invocations"] for step in steps] == [1, 1, 2, 2, 1, 2]
    # The second invocation has nothing to reuse yet at step 2.
    assert [step["kind"] for step in steps] == ["full", "full", "full", "sparse", "skip", "sparse"]


def test_anything_else_begins_a_new_generation(flux):
    (call,) = calls_of(FLUX, 1)
    acceleration = accelerate(flux, SPARSE)
    latents = call["hidden_states"]

    def steps_after(call, time, latents):
        call_at(flux, call, time, latents)
        return len(acceleration.report()["steps"])

    assert [steps_after(call, time, latents + time) for time in (900.0, 800.0, 700.0)] == [1, 2, 3]
    assert steps_after(call, 700.0, latents) == 4  # as some schedulers ask
    assert steps_after(call, 750.0, latents) == 1  # noisier
    assert steps_after(call, 600.0, latents) == 2
    assert (
        steps_after(call | {"encoder_hidden_states": call["encoder_hidden_states"] + 1}, 500.0, latents) == 1
    )
    assert steps_after(call, 400.0, latents) == 1
    smaller = call | {"img_ids": flux_positions(5, 6)}
    assert steps_after(smaller, 300.0, torch.randn(1, 30, 8)) == 1
    # One step of one generation, and of another.
    assert steps_after(call, 1000.0, latents) == 1
    assert steps_after(call, 1000.0, latents + 1) == 1


def test_timesteps_of_mochi_rise():
    model = MOCHI.model()
    acceleration = accelerate(model, SPARSE)
    denoise(MOCHI, model, calls_of(MOCHI, batch=2))
    assert kinds(acceleration) == ["full", "full"] + ["sparse"] * 4


def test_the_same_single_step_again_and_again_keeps_no_more_state(flux):
    (call,) = calls_of(FLUX, 1)
    acceleration = accelerate(flux, SPARSE)
    sizes = set()
    for _ in range(20):
        call_at(flux, call, 1000.0, call["hidden_states"])
        sizes.add(acceleration.report()["state_bytes"])
    assert max(sizes) <= 8 * min(sizes)


# What is refused.


def test_unknown_models_are_named():
    model = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, num_layers=1, sample_size=4
    )
    with pytest.raises(
        tamias.UnsupportedError, match="DiTTransformer2DModel is not served; served: FluxTransformer2DM"
    ):
        tamias.accelerate(model)
    with pytest.raises(
        tamias.UnsupportedError, match="expected a pipeline with a transformer, found SimpleNamespace"
    ):
        tamias.accelerate(SimpleNamespace(unet=model))


def test_films_that_begin_with_a_picture_of_hunyuan_video_are_refused():
    model = BLOCK_FAMILIES["hunyuan-video"].model()
    model.register_to_config(image_condition_type="token_replace")
    with pytest.raises(
        tamias.UnsupportedError, match="image_condition_type: expected None, found 'token_replace'"
    ):
        tamias.accelerate(model)


def test_gradients_are_refused(flux):
    (call,) = calls_of(FLUX, 1)
    accelerate(flux, SPARSE)
    with pytest.raises(tamias.InvalidArgumentError, match=r"call it within torch.no_grad\(\)"):
        flux(**call, timestep=torch.tensor([900.0]))


def test_half_precision_is_refused(flux):
    with pytest.raises(
        tamias.UnsupportedError,
        match="expected torch.float32 or torch.bfloat16 on the CPU, found torch.float16",
    ):
        tamias.accelerate(flux.half())


def test_autocast_is_refused(flux):
    (call,) = calls_of(FLUX, 1)
    accelerate(flux, SPARSE)
    with pytest.raises(tamias.UnsupportedError, match="found torch.bfloat16: autocast is not served"):
        with torch.autocast("cpu", torch.bfloat16):
            call_at(flux, call, 900.0, call["hidden_states"])


def test_caches_of_diffusers_are_refused(flux):
    (call,) = calls_of(FLUX, 1)
    accelerate(flux, SPARSE)
    flux.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.1))
    with pytest.raises(tamias.UnsupportedError, match="a cache of diffusers is enabled"):
        call_at(flux, call, 900.0, call["hidden_states"])


def test_compiled_modules_are_refused(flux):
    before = attributes(flux)
    flux.single_transformer_blocks[1].compile()
    with pytest.raises(tamias.UnsupportedError, match="expected a module that is not compiled"):
        accelerate(flux, SPARSE)
    del flux.single_transformer_blocks[1]._compiled_call_impl
    assert attributes(flux) == before


def test_attention_of_another_kind_is_refused(flux):
    (call,) = calls_of(FLUX, 1)

    class Linear:
        def __call__(
            self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, image_rotary_emb=None
        ):
            return hidden_states, encoder_hidden_states

    flux.set_attn_processor(Linear())
    accelerate(flux, SPARSE)
    with pytest.raises(
        tamias.UnsupportedError, match="layer 0: expected Linear to call scaled_dot_product_attention"
    ):
        call_at(flux, call, 900.0, call["hidden_states"])


def test_overrides_are_checked(flux):
    with pytest.raises(
        tamias.InvalidArgumentError, match="overrides: expected several assignments, found 'attn.mbm=1'"
    ):
        tamias.accelerate(flux, overrides="attn.mbm=1")
    with pytest.raises(tamias.InvalidArgumentError, match="attn.top_key"):
        tamias.accelerate(flux, overrides=["attn.top_key=0.1"])
    with pytest.raises(tamias.InvalidArgumentError, match="overrides: expected none with sparsity 'off'"):
        tamias.accelerate(flux, "off", overrides={"attn.mbm": 1})
    with pytest.raises(tamias.NotFoundError):
        tamias.accelerate(flux, "no-such-profile")
