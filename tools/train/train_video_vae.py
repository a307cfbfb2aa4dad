"""Trains the video demo's AutoencoderKLHunyuanVideo on short crops of rendered clips.

Loss and course are those of train_vae.py; what is particular here:

Fresh weights are not random but nearly a linear codec: residual branches begin at zero, the other
convolutions pass on averages, biases hold the group normalisations nearly constant, and the last
convolution is fitted by least squares. It begins at 19 dB; random weights were at 15 dB after 300
steps.

A decoder that is run piece by piece in time begins its later pieces in the middle of a clip, with a
latent of four frames where it expects a latent of one: a third of the batches are decoded like that,
and only what follows the first latent counts.

HunyuanVideo scales its latents but does not shift them. So at the end mean and deviation of every
channel are folded into the convolutions between encoder, latents and decoder. With --decoder-only
the latents get noise as a transformer leaves it.
"""

from __future__ import annotations

import numpy as np
import torch
from clips import Course, render, sample_clip
from diffusers import AutoencoderKLHunyuanVideo
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from hunyuan_model import LATENT_CHANNELS
from scenes import Window
from train_vae import parse_arguments, train

SIDE, FRAMES = 128, 33  # of the clips that crops are taken from
CROP_FRAMES = (5, 9)
MID_CLIP_SHARE = 0.33
LEFT_NOISE = 0.15  # deviation, at most
FIRST_NOISE = -7.0  # the logarithm of the variance that the encoder begins with
REFERENCE = 0.7  # deviation of the biases that hold the normalisations
RIDGE = 1e-2


# ---- fresh weights


def build_vae() -> AutoencoderKLHunyuanVideo:
    """8 x 8 pixels of 4 frames to 16 latent channels, 2 M parameters."""
    return AutoencoderKLHunyuanVideo(
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(16, 16, 32, 64),
        layers_per_block=1,
        norm_num_groups=2,
        mid_block_add_attention=False,
    )


@torch.no_grad()
def begin_nearly_linear(vae: AutoencoderKLHunyuanVideo, clip: torch.Tensor) -> None:
    """Sets fresh weights as the head of this file says; `clip` is what the output is fitted to."""
    for name, module in vae.named_modules():
        if name.endswith("conv2.conv"):
            module.weight.zero_()
            module.bias.zero_()
        elif name.endswith(("samplers.0.conv.conv", "conv_shortcut.conv")):
            _pass_on(module, average="downsamplers" in name)
    _pass_on(vae.encoder.conv_in.conv, average=True, gain=2.0, keep=0.1)
    _pass_on(vae.encoder.conv_out.conv, average=False, gain=2.0, keep=0.1)
    _pass_on(vae.decoder.conv_in.conv, average=False, gain=1.5, keep=0.1)
    for part in (vae.encoder, vae.decoder):
        torch.nn.init.normal_(part.conv_in.conv.bias, std=REFERENCE)
    identity = torch.eye(LATENT_CHANNELS, device=vae.device)[..., None, None, None]
    vae.quant_conv.weight.zero_()
    vae.quant_conv.weight[:LATENT_CHANNELS, :LATENT_CHANNELS] = identity
    vae.quant_conv.bias.zero_()
    vae.quant_conv.bias[LATENT_CHANNELS:] = FIRST_NOISE
    vae.post_quant_conv.weight.copy_(identity)
    vae.post_quant_conv.bias.zero_()
    _fit_output(vae, clip)


def _pass_on(conv: torch.nn.Conv3d, average: bool, gain: float = 1.0, keep: float = 0.0) -> None:
    """Makes a convolution mix channels orthogonally, of one pixel or averaged; biases 0."""
    kernel = torch.zeros_like(conv.weight[0, 0])
    if average:
        kernel[:] = 1 / kernel.numel()
    else:  # causal in time: the last tap is the present
        kernel[-1, kernel.shape[1] // 2, kernel.shape[2] // 2] = 1
    mix = torch.empty_like(conv.weight[:, :, 0, 0, 0])
    torch.nn.init.orthogonal_(mix, gain)
    conv.weight.copy_(mix[..., None, None, None] * kernel + keep * conv.weight)
    conv.bias.zero_()


def _fit_output(vae: AutoencoderKLHunyuanVideo, clip: torch.Tensor) -> None:
    """Least squares for the middle tap of the decoder's last convolution."""
    seen: list[torch.Tensor] = []
    conv = vae.decoder.conv_out.conv
    hook = vae.decoder.conv_out.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    vae.decode(vae.encode(clip).latent_dist.mode())
    hook.remove()
    features, wanted = (x.movedim(1, -1).flatten(0, 3).double() for x in (seen[0], clip))
    features = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
    ridge = RIDGE * len(features) * torch.eye(features.shape[1], device=clip.device)
    solution = torch.linalg.solve(features.T @ features + ridge, features.T @ wanted)
    conv.weight.zero_()
    conv.weight[:, :, -1, 1, 1] = solution[:-1].T.float()
    conv.bias.copy_(solution[-1])


# ---- training


def sample_crop(rng: np.random.Generator, side: int, frames: int) -> np.ndarray:
    """Consecutive frames [frames, side, side, 3] of a clip, cropped around its object."""
    clip = sample_clip(rng)
    first = int(rng.integers(FRAMES - frames + 1))
    times = (first + np.arange(frames)) / (FRAMES - 1)
    x, y, radius, _ = Course.of(clip).at(float(times[frames // 2]))
    shift = rng.uniform(-1, 1, size=2) * (radius + side / SIDE / 4)
    corner = (np.array([y, x]) + shift) * SIDE - side / 2
    top, left = np.clip(corner, 0, SIDE - side).astype(int)
    return render(clip, SIDE, times, rng, Window(int(top), int(left), side, side))


def sample_batch(rng: np.random.Generator, batch: int, side: int) -> torch.Tensor:
    """Crops [batch, 3, frames, side, side] in -1..1."""
    frames = int(rng.choice(CROP_FRAMES))
    crops = np.stack([sample_crop(rng, side, frames) for _ in range(batch)])
    return torch.from_numpy(crops * 2 - 1).permute(0, 4, 1, 2, 3).contiguous()


def reconstruct(
    vae: AutoencoderKLHunyuanVideo, clip: torch.Tensor, decoder_only: bool
) -> tuple[torch.Tensor, DiagonalGaussianDistribution]:
    """The error of every pixel that counts, and the latents' distribution."""
    posterior = vae.encode(clip).latent_dist
    latents = posterior.mode() if decoder_only else posterior.sample()
    if decoder_only:
        latents = latents + LEFT_NOISE * torch.rand(1).item() * torch.randn_like(latents)
    if latents.shape[2] > 2 and torch.rand(1).item() < MID_CLIP_SHARE:
        return vae.decode(latents[:, :, 1:]).sample[:, :, 1:] - clip[:, :, 5:], posterior
    return vae.decode(latents).sample - clip, posterior


@torch.no_grad()
def normalise_latents(vae: AutoencoderKLHunyuanVideo, clips: list[torch.Tensor]) -> None:
    """Gives every latent channel mean 0 and deviation 1 over clips, without changing what is seen.

    Channels that hardly vary are not blown up beyond a fifth of the common deviation.
    """
    latents = torch.cat([vae.encode(clip).latent_dist.mode() for clip in clips])
    mean = latents.mean((0, 2, 3, 4))
    deviation = latents.std((0, 2, 3, 4)).clamp_min(0.2 * latents.std())
    first, then, count = vae.quant_conv, vae.post_quant_conv, len(mean)
    first.weight[:count] /= deviation.view(-1, 1, 1, 1, 1)
    first.bias[:count] = (first.bias[:count] - mean) / deviation
    first.bias[count:] -= 2 * deviation.log()
    then.bias += then.weight[:, :, 0, 0, 0] @ mean
    then.weight *= deviation.view(1, -1, 1, 1, 1)
    vae.register_to_config(scaling_factor=1.0)


def whole_clips(rng: np.random.Generator, count: int) -> list[torch.Tensor]:
    """The first 17 frames of whole clips."""
    times = np.arange(17) / (FRAMES - 1)
    clips = [render(sample_clip(rng), SIDE, times, rng) for _ in range(count)]
    return [torch.from_numpy(c * 2 - 1).permute(3, 0, 1, 2)[None].contiguous() for c in clips]


def main() -> None:
    args = parse_arguments(__doc__, crop=32, rate=4e-4, bf16=True)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    vae = AutoencoderKLHunyuanVideo.from_pretrained(args.start) if args.start else build_vae()
    vae = vae.float().to(device)
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
    if not args.start:
        begin_nearly_linear(vae, sample_batch(rng, 32, args.crop).to(device))
    if args.decoder_only:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    train(vae, args, lambda: sample_batch(rng, args.batch, args.crop), reconstruct)
    if not args.decoder_only:
        normalise_latents(vae, [clip.to(device) for clip in whole_clips(rng, 24)])
    vae.save_pretrained(args.output)


if __name__ == "__main__":
    main()
