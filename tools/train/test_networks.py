"""The networks of this folder against diffusers' and transformers' classes, on the demo models.

Needs PyTorch, diffusers and transformers, so it is no part of the test suite. About a minute:

    python -m pytest tools/train/test_networks.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

TOOLS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TOOLS / "train"), str(TOOLS / "quality")]

import blocks  # noqa: E402
import clips  # noqa: E402
import film_vae  # noqa: E402
import scenes  # noqa: E402
from demo_model import load_model, sample, sampler_sigmas  # noqa: E402
from diffusers import FluxPipeline, HunyuanVideoPipeline  # noqa: E402
from film_vae import FilmVae  # noqa: E402
from flux_model import pack, unpack  # noqa: E402
from picture_vae import PictureVae  # noqa: E402
from text_encoders import clip_pooled, llama_states, t5_buckets, t5_states  # noqa: E402
from token_windows import WindowShape, stand_in_bias  # noqa: E402
from tokens import TEMPLATE, TEMPLATE_TOKENS  # noqa: E402
from weights import load_parts, save_parts  # noqa: E402

torch.set_num_threads(1)
CPU = torch.device("cpu")
MODELS = TOOLS.parent / "models"
FLUX, VIDEO = MODELS / "demo-flux", MODELS / "demo-video"


def largest_difference(got: torch.Tensor, want: torch.Tensor) -> float:
    return (got - want).abs().max().item()


@pytest.fixture(scope="module")
def flux():
    pipe = FluxPipeline.from_pretrained(FLUX, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    model = load_model("picture", FLUX, CPU)
    return pipe, model, load_parts(FLUX, model.files, CPU)


@pytest.fixture(scope="module")
def video():
    pipe = HunyuanVideoPipeline.from_pretrained(VIDEO, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    model = load_model("film", VIDEO, CPU)
    return pipe, model, load_parts(VIDEO, model.files, CPU)


def scene_captions(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [scenes.caption(scenes.sample_scene(rng)) for _ in range(count)] + [""]


def clip_captions(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [clips.caption(clips.sample_clip(rng)) for _ in range(count)] + [""]


def padded(tokenizer, texts: list[str], length: int):
    options = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
    return tokenizer(texts, max_length=length, **options)


# ---- the picture model


def test_picture_ids_and_text_encoders(flux):
    pipe, model, parts = flux
    texts = scene_captions(100)
    clip, t5 = model.ids(texts)
    assert torch.equal(clip, padded(pipe.tokenizer, texts, 77).input_ids)
    assert torch.equal(t5, padded(pipe.tokenizer_2, texts, 36).input_ids)
    with torch.no_grad():
        want = pipe.text_encoder(clip[-4:]).pooler_output
        assert largest_difference(clip_pooled(parts["clip"], clip[-4:]), want) < 1e-5
        want = pipe.text_encoder_2(t5[-4:])[0]
        assert largest_difference(t5_states(parts["t5"], t5[-4:], t5_buckets(36, CPU)), want) < 1e-5


def test_picture_vae(flux):
    pipe, rng = flux[0], np.random.default_rng(1)
    pixels = [scenes.render(scenes.sample_scene(rng), 64, rng) for _ in range(2)]
    x = torch.from_numpy((np.stack(pixels) * 255).round().astype(np.uint8))
    vae, config = PictureVae(FLUX, CPU, torch.float32), pipe.vae.config
    with torch.no_grad():
        want = pipe.vae.encode(x.permute(0, 3, 1, 2).float() / 127.5 - 1).latent_dist.mode()
        want = (want - config.shift_factor) * config.scaling_factor
        tokens = vae.encode(x)
        assert largest_difference(tokens, pack(want)) < 1e-4
        assert torch.equal(unpack(pack(want)), want)
        made = pipe.vae.decode(want / config.scaling_factor + config.shift_factor).sample
        made = ((made / 2 + 0.5).clamp(0, 1) * 255).round().permute(0, 2, 3, 1)
        assert largest_difference(vae.decode(tokens).float(), made) <= 1


def test_picture_pipeline(flux):
    pipe, model, parts = flux
    prompt, side = scene_captions(1)[0], 64
    options = {"negative_prompt": "", "true_cfg_scale": 3.0, "num_inference_steps": 3}
    want = pipe(
        prompt, height=side, width=side, max_sequence_length=36, output_type="latent",
        generator=torch.Generator("cpu").manual_seed(7), **options,
    ).images  # fmt: skip
    noise = model.start_noise(side, 7)[None]
    tables = model.tables(side, grid_side=side // 8)  # the pipeline's own places
    sigmas = sampler_sigmas(3, model.flow_shift(side))
    got = sample(model, parts, model.ids([prompt]), noise, tables, sigmas, 3.0, torch.float32)
    assert largest_difference(got, want) < 1e-4
    half = sample(model, parts, model.ids([prompt]), noise, tables, sigmas, 3.0, torch.bfloat16)
    assert (half - want).square().mean().sqrt() < 0.1


# ---- the video model


def test_film_ids_and_text_encoders(video):
    pipe, model, parts = video
    assert (
        TEMPLATE == sys.modules[HunyuanVideoPipeline.__module__].DEFAULT_PROMPT_TEMPLATE["template"]
    )
    texts = clip_captions(60)
    llama, words, clip = model.ids(texts)
    full = padded(pipe.tokenizer, [TEMPLATE.format(t) for t in texts], TEMPLATE_TOKENS + 16)
    assert torch.equal(llama, full.input_ids[:, TEMPLATE_TOKENS:])
    assert torch.equal(words, full.attention_mask[:, TEMPLATE_TOKENS:].sum(1))
    assert torch.equal(clip, padded(pipe.tokenizer_2, texts, 77).input_ids[:, :16])
    template = full.input_ids[:1, :TEMPLATE_TOKENS]
    assert template[0].tolist() == model.tokenize.template
    with torch.no_grad():
        want, pooled, _ = pipe.encode_prompt(texts[-4:], max_sequence_length=16)
        got = llama_states(parts["llama"], template, llama[-4:])
        real = (torch.arange(16) < words[-4:, None])[..., None]
        assert largest_difference(got * real, want * real) < 1e-4
        assert largest_difference(clip_pooled(parts["clip"], clip[-4:]), pooled) < 1e-5


@pytest.mark.parametrize(("frames", "side"), [(33, 32), (9, 48), (21, 32)])
def test_film_vae(video, frames, side):
    pipe, rng = video[0], np.random.default_rng(2)
    x = np.empty((1, frames, side, side, 3), np.uint8)
    clips.paint(clips.sample_clip(rng), side, clips.frame_times(frames), rng, x[0])
    x, vae = torch.from_numpy(x), FilmVae.from_folder(VIDEO, CPU)
    with torch.no_grad():
        want = pipe.vae.encode(x.permute(0, 4, 1, 2, 3).float() / 127.5 - 1).latent_dist.mode()
        tokens = vae.encode(x)
        assert largest_difference(tokens, want.permute(0, 2, 3, 4, 1).flatten(1, 3)) < 1e-3
        made = pipe.vae.decode(want.clone()).sample
        made = ((made / 2 + 0.5).clamp(0, 1) * 255).round().permute(0, 2, 3, 4, 1)
        assert largest_difference(vae.decode(tokens, want.shape[2]).float(), made) <= 1


def test_film_vae_gradients(video):
    reference, vae = video[0].vae, FilmVae.from_folder(VIDEO, CPU)
    w = {k: v.requires_grad_() for k, v in vae.exact.items()}
    x = torch.rand((1, 9, 16, 16, 3), generator=torch.Generator().manual_seed(1)) * 2 - 1
    y = film_vae.decode_piece(w, film_vae.encode_piece(w, x)[..., :16])
    (y - x).square().mean().backward()
    reference.requires_grad_(True)
    moved = x.permute(0, 4, 1, 2, 3)
    out = reference.decode(reference.encode(moved).latent_dist.mode()).sample
    (out - moved).square().mean().backward()
    known = dict(reference.named_parameters())
    got, want = (torch.cat([d[k].grad.flatten() for k in w]) for d in (w, known))
    reference.requires_grad_(False)
    reference.zero_grad()
    assert (got - want).norm() / want.norm() < 1e-3


@pytest.mark.parametrize(("side", "frames"), [(32, 3), (64, 2)])
def test_film_pipeline(video, side, frames):
    pipe, model, parts = video
    texts = clip_captions(2)[:2]
    want = [
        pipe(
            text, negative_prompt="", true_cfg_scale=3.0, height=side, width=side,
            num_frames=frames * 4 - 3, num_inference_steps=3, max_sequence_length=16,
            generator=torch.Generator("cpu").manual_seed(7 + i), output_type="latent",
        )[0]
        for i, text in enumerate(texts)
    ]  # fmt: skip
    want = torch.cat(want).permute(0, 2, 3, 4, 1).flatten(1, 3)
    noise = torch.stack([model.start_noise(side, 7 + i, frames) for i in range(2)])
    tables = model.tables(side, frames, grid_side=side // 8)
    sigmas = sampler_sigmas(3, model.flow_shift(side))
    got = sample(model, parts, model.ids(texts), noise, tables, sigmas, 3.0, torch.float32)
    assert largest_difference(got, want) < 1e-4


# ---- what training needs beside the pipelines


def velocity_and_gradients(model, parts, noisy, ids, tables, keys=None):
    w = {k: v.detach().clone().requires_grad_() for k, v in parts["transformer"].items()}
    text = model.encode(parts, ids)
    text = blocks.Text(text.states.detach(), text.pooled.detach(), text.words)
    keys = model.keys(text.words, noisy.shape[1]) if keys is None else keys(text.words)
    t = torch.linspace(0.2, 0.9, len(noisy))
    v = model.velocity(w, noisy, text, t, tables, keys, torch.float32)
    v.square().mean().backward()
    return v.detach(), torch.cat([x.grad.flatten() for x in w.values()])


def test_sequences_of_their_own_lengths_are_what_the_mask_gives(video, monkeypatch):
    """With a stand-in for flash attention, which needs a GPU."""

    def stand_in(q, k, v, first, second, longest, _):
        assert first is second and first.dtype == torch.int32 and first[-1] == len(q)
        out = []
        for i, j in zip(first.tolist(), first.tolist()[1:]):
            x, y, z = (a[i:j].transpose(0, 1) for a in (q, k, v))
            out.append((torch.softmax(x @ y.mT * 64**-0.5, -1) @ z).transpose(0, 1))
        return torch.cat(out)

    monkeypatch.setattr(blocks, "varlen_attn", stand_in)
    _, model, parts = video
    ids, noisy = model.ids(clip_captions(2)), torch.randn(3, model.tokens(16), 16)
    want = velocity_and_gradients(model, parts, noisy, ids, model.tables(16))
    monkeypatch.setattr(model, "varlen", True)
    got = velocity_and_gradients(model, parts, noisy, ids, model.tables(16))
    assert largest_difference(got[0], want[0]) < 1e-4
    assert (got[1] - want[1]).norm() / want[1].norm() < 1e-4


@pytest.mark.parametrize("kind", ["flux", "video"])
def test_a_window_of_all_tokens_in_any_order_is_the_whole(kind, request):
    _, model, parts = request.getfixturevalue(kind)
    texts = scene_captions(1) if kind == "flux" else clip_captions(1)
    ids, side = model.ids(texts), 32
    noisy = torch.randn(2, model.tokens(side), model.channels)
    want = velocity_and_gradients(model, parts, noisy, ids, model.tables(side))
    order = torch.randperm(noisy.shape[1])
    places = blocks.whole_places(model.frames, side // 8, model.grid_side)[order]
    tables = model.tables_at(places[None].expand(2, -1, -1))
    no_bias = torch.zeros(noisy.shape[1])
    got = velocity_and_gradients(
        model, parts, noisy[:, order], ids, tables, lambda words: model.window_keys(words, no_bias)
    )
    assert largest_difference(got[0], want[0][:, order]) < 1e-4
    assert (got[1] - want[1]).norm() / want[1].norm() < 1e-4


def test_a_biased_token_stands_for_several_like_it(flux):
    """Tokens that are alike, at the same place, are as one with the logarithm of their number."""
    _, model, parts = flux
    ids = model.ids(scene_captions(1)[:1])
    some, one = torch.randn(1, 9, 32), torch.randn(1, 1, 32)
    places = torch.rand(10, 3, dtype=torch.float64) * 8
    bias = torch.from_numpy(stand_in_bias(WindowShape(3, 1), 9 + 4))
    with torch.no_grad():
        got, _ = velocity_and_grad_free(model, parts, torch.cat([some, one], 1), ids, places, bias)
        repeated = torch.cat([some, one.expand(-1, 4, -1)], 1)
        where = torch.cat([places, places[-1:].expand(3, -1)])
        want, _ = velocity_and_grad_free(model, parts, repeated, ids, where, torch.zeros(13))
    assert largest_difference(got, want[:, :10]) < 1e-4


def velocity_and_grad_free(model, parts, noisy, ids, places, bias):
    text = model.encode(parts, ids)
    keys, tables = model.window_keys(text.words, bias), model.tables_at(places)
    t = torch.full((len(noisy),), 0.5)
    w = parts["transformer"]
    return model.velocity(w, noisy, text, t, tables, keys, torch.float32), keys


@pytest.mark.parametrize("kind", ["flux", "video"])
def test_what_is_written_is_what_was_read(kind, request, tmp_path):
    _, model, parts = request.getfixturevalue(kind)
    folder = FLUX if kind == "flux" else VIDEO
    for path in save_parts(parts, model.files, tmp_path):
        assert path.stat().st_size == (folder / path.relative_to(tmp_path)).stat().st_size
    again = load_parts(tmp_path, model.files, CPU)
    for part, tensors in parts.items():
        assert all(torch.equal(again[part][name], tensor) for name, tensor in tensors.items())
