"""Pipelines of diffusers accelerated beside the engine with the same folder, noise and profile: the same
latents."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

import diffusers
import numpy as np
import tamias
import torch
from PIL import Image
from test_python_documents import blocks
from tiny_transformers import attributes

ROOT = Path(__file__).parents[2]
DEMO, DEMO_VIDEO = ROOT / "models/demo-flux", ROOT / "models/demo-video"
TINY = ROOT / "tests/data/pipeline"
PROMPT = "a large red circle at the center on a grey background"
# PyTorch and the engine round differently (about 2e-6 of the latents); a column or neuron at the threshold of
# a
# selection may fall to the other side for that, which these cases do not come near to.
TOLERANCE = 1e-3


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def quiet(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def flux(pipeline, seed=5, steps=6, prompt=PROMPT, guidance=3.0, **options) -> np.ndarray:
    """Latents [pictures, tokens, channels] of the picture demo at 128x128."""
    with torch.inference_mode():
        return pipeline(
            prompt=prompt, negative_prompt="", true_cfg_scale=guidance, max_sequence_length=36, width=128,
            height=128, num_inference_steps=steps, generator=torch.Generator("cpu").manual_seed(seed),
            output_type="latent", **options,
        ).images.numpy()  # fmt: skip


def engine_flux(engine, overrides, seed=5, steps=6, guidance=3.0, **options):
    return engine.generate(
        PROMPT, width=128, height=128, steps=steps, seed=seed, true_cfg_scale=guidance, sparsity="demo",
        overrides=overrides, decode=False, threads=1, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def pipeline():
    return quiet(diffusers.FluxPipeline.from_pretrained(DEMO, local_files_only=True, dtype=torch.float32))


@pytest.fixture(scope="module")
def engine():
    return tamias.Pipeline(DEMO)


@pytest.fixture(scope="module")
def plain(pipeline):
    return flux(pipeline)


def kinds(report) -> list[str]:
    return [step["kind"] for step in report["steps"]]


EVERY_STEP = {"step_caching.is_enabled": False}
FLUX_CASES = {
    "the profile": {},
    "hidden": {"step_caching.reuse": "hidden"},
    "extrapolate": {"step_caching.reuse": "extrapolate"},
    "attention": EVERY_STEP | {"mlp.is_enabled": False},
    "attention merged by log-sum-exp": EVERY_STEP | {"mlp.is_enabled": False, "attn.merge": "lse"},
    "row order": EVERY_STEP | {"mlp.is_enabled": False, "patchify.is_enabled": False},
    "threshold": {
        "attn.is_enabled": False, "mlp.is_enabled": False, "step_caching.skip_step_schedule": {3},
        "step_caching.threshold": 0.3,
    },
}  # fmt: skip


@pytest.mark.parametrize("case", FLUX_CASES)
def test_flux_is_as_the_engine(pipeline, engine, plain, case):
    expected = engine_flux(engine, FLUX_CASES[case])
    with tamias.accelerate(pipeline, overrides=FLUX_CASES[case], threads=1) as acceleration:
        found = flux(pipeline)
        report = acceleration.report()
    assert relative_error(found[0], expected.latents[0]) < TOLERANCE
    assert relative_error(found[0], plain[0]) > 10 * TOLERANCE
    assert kinds(report) == kinds(expected.report)
    assert report["attention_sparsity"] == pytest.approx(expected.attention_sparsity, abs=1e-3)
    assert report["mlp_sparsity"] == pytest.approx(expected.mlp_sparsity, abs=1e-3)


def test_flux_mlps_are_as_the_engines(pipeline, engine, plain):
    overrides = EVERY_STEP | {"attn.is_enabled": False}
    expected = engine_flux(engine, overrides, steps=3)
    with tamias.accelerate(pipeline, overrides=overrides, threads=1) as acceleration:
        found = flux(pipeline, steps=3)
        assert acceleration.report()["mlp_sparsity"] == pytest.approx(expected.mlp_sparsity, abs=1e-3)
        assert expected.mlp_sparsity > 0.3
    assert relative_error(found[0], expected.latents[0]) < TOLERANCE


def test_pictures_of_a_batch_are_as_the_engines(pipeline, engine):
    expected = engine_flux(engine, {}, num_images=2).latents
    with tamias.accelerate(pipeline, threads=1):
        found = flux(pipeline, num_images_per_prompt=2)
    assert [relative_error(a, b) < TOLERANCE for a, b in zip(found, expected)] == [True, True]


def test_without_guidance_there_is_one_call(pipeline, engine):
    expected = engine_flux(engine, {}, guidance=1.0).latents
    with tamias.accelerate(pipeline, threads=1) as acceleration:
        found = flux(pipeline, guidance=1.0)
        assert {step["invocations"] for step in acceleration.report()["steps"]} == {1}
    assert relative_error(found[0], expected[0]) < TOLERANCE


def test_the_folder_names_its_profile(pipeline):
    profile = tamias.SparsityConfig.load("demo")
    with tamias.accelerate(pipeline) as acceleration:
        assert acceleration.config.yaml == profile.yaml
    with tamias.accelerate(pipeline.transformer) as acceleration:
        assert acceleration.config.yaml == profile.yaml
    profile.set("attn.top_keys=0.2")
    with tamias.accelerate(pipeline, profile, overrides=["attn.mbm=96"]) as acceleration:
        assert acceleration.config.attn.top_keys == 0.2 and acceleration.config.attn.mbm == 96
    assert profile.attn.mbm == 192


def test_restored_is_as_never_accelerated(pipeline, plain):
    before = attributes(pipeline.transformer)
    tamias.accelerate(pipeline, threads=1)
    assert not np.array_equal(flux(pipeline), plain)
    tamias.restore(pipeline)
    tamias.restore(pipeline)
    assert attributes(pipeline.transformer) == before
    assert np.array_equal(flux(pipeline), plain)


def test_accelerated_again_is_replaced(pipeline, plain):
    first = tamias.accelerate(pipeline, threads=1)
    second = tamias.accelerate(pipeline, "off", threads=1)
    assert relative_error(flux(pipeline), plain) < 1e-5
    assert first.report()["steps"] == [] and len(second.report()["steps"]) == 6
    first.restore()  # of no effect any more
    flux(pipeline, steps=2)
    assert len(second.report()["steps"]) == 2
    tamias.restore(pipeline)


def test_two_pipelines_do_not_see_each_other(pipeline):
    other = quiet(diffusers.FluxPipeline.from_pretrained(DEMO, local_files_only=True, dtype=torch.float32))
    found = []

    def run_other(pipe, step, timestep, inputs):
        if step == 2:
            found.append(flux(other, seed=9))
        return inputs

    with tamias.accelerate(pipeline, threads=1):
        alone = flux(pipeline)
    with tamias.accelerate(other, threads=1):
        other_alone = flux(other, seed=9)
    with tamias.accelerate(pipeline, threads=1), tamias.accelerate(other, threads=1):
        assert np.array_equal(flux(pipeline, callback_on_step_end=run_other), alone)
    assert np.array_equal(found[0], other_alone)


def test_what_was_broken_off_leaves_nothing_behind(pipeline):
    def stop(pipe, step, timestep, inputs):
        if step == 2:
            raise KeyboardInterrupt
        return inputs

    def fail(module, args):
        raise RuntimeError("out of luck")

    with tamias.accelerate(pipeline, threads=1) as acceleration:
        expected = flux(pipeline, steps=4)
        with pytest.raises(KeyboardInterrupt):
            flux(pipeline, steps=4, callback_on_step_end=stop)
        assert np.array_equal(flux(pipeline, steps=4), expected)
        hook = pipeline.transformer.single_transformer_blocks[3].attn.to_v.register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="out of luck"):
            flux(pipeline, steps=4)
        hook.remove()
        assert acceleration.report()["steps"] == []
        assert np.array_equal(flux(pipeline, steps=4), expected)
        acceleration.reset()
        assert acceleration.report()["state_bytes"] == 0


# Films.


def pack(latents: torch.Tensor, patch: tuple[int, int, int]) -> np.ndarray:
    """[B, C, T, H, W] -> [B, N, C pt ph pw]."""
    b, c, t, h, w = latents.shape
    pt, ph, pw = patch
    tokens = latents.reshape(b, c, t // pt, pt, h // ph, ph, w // pw, pw).permute(0, 2, 4, 6, 1, 3, 5, 7)
    return tokens.reshape(b, (t // pt) * (h // ph) * (w // pw), c * pt * ph * pw).numpy()


def film(pipeline, patch=(1, 2, 2), **options) -> np.ndarray:
    with torch.inference_mode():
        result = pipeline(generator=torch.Generator("cpu").manual_seed(11), output_type="latent", **options)
        return pack(result.frames, patch)


# Small groups, as there are few tokens; full steps, sparse ones, one that is skipped.
FILM = {
    "attn.is_enabled": True, "attn.mbm": 8, "attn.top_keys": 0.3, "attn.counts_multiple_of": 1,
    "attn.first_n_dense_layers": 0, "attn.full_step_schedule": {0, 1}, "mlp.is_enabled": False,
    "step_caching.is_enabled": True, "step_caching.skip_step_schedule": {3}, "step_caching.reuse": "hidden",
}  # fmt: skip


def check_film(
    pipeline, folder: Path, options: dict, engine_options: dict, overrides=FILM, patch=(1, 2, 2)
) -> None:
    profile = tamias.SparsityConfig()
    plain = film(pipeline, patch, **options)
    with tamias.accelerate(pipeline, profile, overrides=overrides, threads=1) as acceleration:
        found = film(pipeline, patch, **options)
        report = acceleration.report()
    yaml = folder / "profile.yml"
    yaml.write_text(profile.yaml)
    expected = tamias.Pipeline(folder).generate(
        sparsity=str(yaml), overrides=overrides, seed=11, decode=False, threads=1, **engine_options
    )
    assert kinds(report) == kinds(expected.report) and "skip" in kinds(report)
    # That of all invocations alike, where the engine weighs them by the length of their texts.
    assert report["attention_sparsity"] == pytest.approx(expected.attention_sparsity, abs=1e-2)
    assert expected.attention_sparsity > 0.05
    effect = relative_error(found, plain)
    assert effect > 5e-4
    for one, other in zip(found, expected.latents, strict=True):
        assert relative_error(one, other) < min(TOLERANCE, effect / 20)


def folder_of(name: str, tmp_path: Path, **links: Path) -> Path:
    folder = tmp_path / name
    shutil.copytree(TINY / name, folder)
    for link, target in links.items():
        (folder / link).symlink_to(target)
    return folder


def float_model(class_, folder: Path):
    return class_.from_pretrained(folder, local_files_only=True).float().eval()


def without_weights(class_, folder: Path):
    """Latents are not decoded here, and the fixtures have decoders alone."""
    return class_.from_config(class_.load_config(folder))


def test_the_video_demo_is_as_the_engine(tmp_path):
    pipeline = quiet(
        diffusers.HunyuanVideoPipeline.from_pretrained(DEMO_VIDEO, local_files_only=True, dtype=torch.float32)
    )
    size = dict(width=64, height=64, num_frames=9)
    options = dict(
        prompt=PROMPT, negative_prompt="", true_cfg_scale=3.0, max_sequence_length=32, num_inference_steps=5
    )
    folder = tmp_path / "demo-video"
    shutil.copytree(DEMO_VIDEO, folder)
    check_film(
        pipeline, folder, options | size, dict(prompt=PROMPT, steps=5, true_cfg_scale=3.0) | size,
        FILM | {"mlp.is_enabled": True, "mlp.first_n_dense_layers": 0, "step_caching.reuse": "extrapolate"},
        patch=(1, 1, 1),
    )  # fmt: skip


def wan_pipeline(kind, folder, **others):
    """A Wan pipeline of a tiny model's folder; others: the components that this kind has besides."""
    return quiet(
        kind(
            tokenizer=transformers.T5Tokenizer.from_pretrained(DEMO / "tokenizer_2", local_files_only=True),
            text_encoder=float_model(transformers.UMT5EncoderModel, folder / "text_encoder"),
            vae=float_model(diffusers.AutoencoderKLWan, folder / "vae"),
            scheduler=diffusers.UniPCMultistepScheduler.from_pretrained(folder / "scheduler"),
            transformer=float_model(diffusers.WanTransformer3DModel, folder / "transformer"),
            **others,
        )
    )


def test_wan_is_as_the_engine(tmp_path):
    folder = folder_of("tiny-wan", tmp_path, tokenizer=DEMO / "tokenizer_2")
    pipeline = wan_pipeline(diffusers.WanPipeline, folder)
    size = dict(width=48, height=64, num_frames=9)
    prompts = dict(prompt="a small blue star", negative_prompt="a grey background")
    options = dict(num_inference_steps=6, guidance_scale=3.0, max_sequence_length=40)
    engine_options = dict(steps=6, true_cfg_scale=3.0, max_sequence_length=40)
    check_film(pipeline, folder, prompts | size | options, prompts | size | engine_options)
    # A scheduler that asks twice at most timesteps: each time is a step.
    pipeline.scheduler = diffusers.FlowMatchHeunDiscreteScheduler(shift=3.0)
    shutil.rmtree(folder / "scheduler")
    pipeline.scheduler.save_pretrained(folder / "scheduler")
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "FlowMatchHeunDiscreteScheduler"]
    (folder / "model_index.json").write_text(json.dumps(index))
    check_film(pipeline, folder, prompts | size | options, prompts | size | engine_options)


def test_wan_image_to_video_is_as_the_engine(tmp_path, monkeypatch):
    from diffusers.pipelines.wan import pipeline_wan_i2v

    # The pipeline calls ftfy even where it is not installed; the prompts here have nothing to repair.
    monkeypatch.setattr(pipeline_wan_i2v, "ftfy", SimpleNamespace(fix_text=lambda text: text), raising=False)
    folder = folder_of("tiny-wan-image", tmp_path, tokenizer=DEMO / "tokenizer_2")
    pipeline = wan_pipeline(
        diffusers.WanImageToVideoPipeline,
        folder,
        image_encoder=float_model(transformers.CLIPVisionModel, folder / "image_encoder"),
        image_processor=transformers.CLIPImageProcessor.from_pretrained(folder / "image_processor"),
    )
    size = dict(width=48, height=64, num_frames=9)
    prompts = dict(prompt="a small blue star", negative_prompt="a grey background")
    options = dict(image=Image.open(folder / "picture.png"), num_inference_steps=6, guidance_scale=3.0)
    engine_options = dict(image=folder / "picture.png", steps=6, true_cfg_scale=3.0)
    check_film(pipeline, folder, prompts | size | options, prompts | size | engine_options)


def test_wan_2_2_is_as_the_engine(tmp_path):
    parts = {name: TINY / "tiny-wan" / name for name in ("text_encoder", "vae", "scheduler")}
    folder = folder_of("tiny-wan-2.2", tmp_path, tokenizer=DEMO / "tokenizer_2", **parts)
    pipeline = wan_pipeline(
        diffusers.WanPipeline,
        folder,
        transformer_2=float_model(diffusers.WanTransformer3DModel, folder / "transformer_2"),
        boundary_ratio=0.875,
    )
    shared = dict(
        prompt="a small blue star", negative_prompt="a grey background", width=48, height=64, num_frames=9,
        max_sequence_length=40,
    )  # fmt: skip
    options = shared | dict(num_inference_steps=8, guidance_scale=3.0, guidance_scale_2=2.0)
    plain = film(pipeline, (1, 2, 2), **options)
    with tamias.accelerate(pipeline, tamias.SparsityConfig(), overrides=FILM, threads=1) as acceleration:
        found = film(pipeline, (1, 2, 2), **options)
        report = acceleration.report()
    yaml = folder / "profile.yml"
    yaml.write_text(tamias.SparsityConfig().yaml)
    # There each transformer counts its own steps: the fourth of the second is step 6 here.
    expected = tamias.Pipeline(folder).generate(
        sparsity=str(yaml), overrides=FILM | {"step_caching.skip_step_schedule": {6}}, seed=11, decode=False,
        threads=1, steps=8, true_cfg_scale=3.0, true_cfg_scale_2=2.0, **shared,
    )  # fmt: skip
    assert kinds(report) + kinds(report["transformer_2"]) == kinds(expected.report)
    assert kinds(expected.report) == ["full", "full", "sparse", "full", "full", "sparse", "skip", "sparse"]
    effect = relative_error(found, plain)
    assert effect > 5e-4
    for one, other in zip(found, expected.latents, strict=True):
        assert relative_error(one, other) < min(TOLERANCE, effect / 20)


def test_mochi_is_as_the_engine(tmp_path):
    links = dict(tokenizer=DEMO / "tokenizer_2", text_encoder=DEMO / "text_encoder_2")
    folder = folder_of("tiny-mochi", tmp_path, **links)
    pipeline = quiet(
        diffusers.MochiPipeline(
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
            vae=without_weights(diffusers.AutoencoderKLMochi, folder / "vae"),
            text_encoder=float_model(transformers.T5EncoderModel, folder / "text_encoder"),
            tokenizer=transformers.T5Tokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            transformer=float_model(diffusers.MochiTransformer3DModel, folder / "transformer"),
            force_zeros_for_empty_prompt=True,
        )
    )
    size = dict(width=48, height=32, num_frames=7)
    prompts = dict(prompt="a small blue star", negative_prompt="a grey circle")
    # Guidance is a batch of two here.
    options = dict(num_inference_steps=6, guidance_scale=2.5, max_sequence_length=14)
    engine_options = dict(steps=6, true_cfg_scale=2.5, max_sequence_length=14)
    check_film(pipeline, folder, prompts | size | options, prompts | size | engine_options)


def test_hunyuan_video_is_as_the_engine(tmp_path):
    links = dict(tokenizer_2=DEMO / "tokenizer", text_encoder_2=DEMO / "text_encoder")
    folder = folder_of("tiny-hunyuan-video", tmp_path, **links)
    pipeline = quiet(
        diffusers.HunyuanVideoPipeline(
            text_encoder=float_model(transformers.LlamaModel, folder / "text_encoder"),
            tokenizer=transformers.AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            transformer=float_model(diffusers.HunyuanVideoTransformer3DModel, folder / "transformer"),
            vae=without_weights(diffusers.AutoencoderKLHunyuanVideo, folder / "vae"),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
            text_encoder_2=float_model(transformers.CLIPTextModel, folder / "text_encoder_2"),
            tokenizer_2=transformers.CLIPTokenizer.from_pretrained(
                folder / "tokenizer_2", local_files_only=True
            ),
        )
    )
    size = dict(width=48, height=64, num_frames=17)
    options = dict(
        prompt="A small blue star rises", num_inference_steps=6, guidance_scale=4.5, max_sequence_length=40
    )
    engine_options = dict(
        prompt="A small blue star rises", steps=6, guidance_scale=4.5, max_sequence_length=40
    )
    check_film(pipeline, folder, options | size, engine_options | size)


def test_the_code_of_the_page_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    small = "num_inference_steps=3, width=64, height=64)"
    names = {}
    for block in blocks("docs/diffusers.md"):
        block = block.replace("num_inference_steps=20)", small).replace(
            'white background")', f'white background", {small}'
        )
        exec(compile(block, "diffusers.md", "exec"), names)
    assert names["image"].size == (64, 64)
