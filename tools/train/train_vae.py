"""Trains the demo's AutoencoderKL on crops of rendered scenes, or goes on with its decoder alone.

Loss: mean absolute error + 2 x mean squared error + a small KL term. At the end shift_factor and
scaling_factor are measured, so that latents have mean 0 and deviation 1, and saved with the model.
With --decoder-only the latent space stays, and with it every transformer trained on it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from flux_model import LATENT_CHANNELS
from scenes import PLACES, Window, render, sample_scene

PICTURE_SIDES = (64, 128, 256, 512)
SIDE_WEIGHTS = (0.15, 0.2, 0.25, 0.4)  # most at the sizes that the demo paints
KL_WEIGHT = 1e-3


def build_vae() -> AutoencoderKL:
    """AutoencoderKL, 4 x 4 pixels to 8 latent channels, 0.78 M parameters."""
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        block_out_channels=(24, 48, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        sample_size=512,
    )


def sample_crop(rng: np.random.Generator, side: int) -> np.ndarray:
    """A crop [side, side, 3] around an object: empty crops teach little."""
    scene = sample_scene(rng)
    picture_side = int(rng.choice(PICTURE_SIDES, p=SIDE_WEIGHTS))
    place = PLACES[scene.objects[rng.integers(len(scene.objects))].place]
    shift = rng.integers(-side // 2, side // 2 + 1, size=2)
    center = np.array(place[::-1]) * picture_side + shift
    top, left = np.clip(center - side // 2, 0, max(0, picture_side - side)).astype(int)
    return render(scene, picture_side, rng, Window(int(top), int(left), side, side))


def sample_batch(rng: np.random.Generator, batch: int, side: int) -> torch.Tensor:
    """Crops [batch, 3, side, side] in -1..1."""
    crops = np.stack([sample_crop(rng, side) for _ in range(batch)])
    pixels = torch.from_numpy(crops * 2 - 1).permute(0, 3, 1, 2)
    return pixels.contiguous(memory_format=torch.channels_last)


def reconstruct(
    vae: AutoencoderKL, image: torch.Tensor, decoder_only: bool
) -> tuple[torch.Tensor, DiagonalGaussianDistribution]:
    """The error of every pixel, and the latents' distribution."""
    posterior = vae.encode(image).latent_dist
    # The transformer learns latents without the encoder's noise: the mode.
    latents = posterior.mode() if decoder_only else posterior.sample()
    return vae.decode(latents).sample - image, posterior


def train(
    vae: torch.nn.Module,
    args: argparse.Namespace,
    draw: Callable[[], torch.Tensor],
    reconstruct: Callable[..., tuple[torch.Tensor, DiagonalGaussianDistribution]],
) -> None:
    """AdamW with warm-up and cosine decay on what `draw` brings; prints PSNR."""
    weights = [p for p in vae.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, args.rate, betas=(0.9, 0.99), weight_decay=0.0)
    errors = []
    for step in range(args.steps):
        pixels = draw().to(vae.device)
        with torch.autocast(vae.device.type, torch.bfloat16, enabled=args.bf16):
            error, posterior = reconstruct(vae, pixels, args.decoder_only)
        error = error.float()
        loss = error.abs().mean() + 2 * error.square().mean()
        loss = loss + KL_WEIGHT * posterior.kl().float().mean() / posterior.mean[0].numel()
        decay = 0.02 + 0.49 * (1 + math.cos(math.pi * step / args.steps))
        for group in optimizer.param_groups:
            group["lr"] = args.rate * min(1, (step + 1) / 50) * decay
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        errors.append(error.square().mean().item())
        if (step + 1) % 50 == 0:
            decibels = 10 * math.log10(4 / np.mean(errors[-50:]))
            print(f"step {step + 1}/{args.steps} PSNR {decibels:.2f} dB", flush=True)
        if (step + 1) % 200 == 0:
            vae.save_pretrained(args.output)


@torch.no_grad()
def measure_latents(vae: AutoencoderKL, rng: np.random.Generator) -> tuple[float, float]:
    """Mean and deviation of the latents of 64 crops."""
    latents = vae.encode(sample_batch(rng, 64, 128).to(vae.device)).latent_dist.mode()
    return latents.mean().item(), latents.std().item()


def parse_arguments(description: str, crop: int, rate: float, bf16: bool) -> argparse.Namespace:
    """The options of VAE training, with the defaults of one kind of VAE."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output", type=Path, required=True, help="VAE folder to write")
    add("--start", type=Path, help="VAE folder to go on from")
    add("--decoder-only", action="store_true", help="keep the latent space (needs --start)")
    add("--steps", type=int, default=4000)
    add("--batch", type=int, default=16)
    add("--crop", type=int, default=crop, help="side of the crops in pixels")
    add("--rate", type=float, default=rate)
    add("--seed", type=int, default=0)
    add("--bf16", action=argparse.BooleanOptionalAction, default=bf16, help="autocast")
    args = parser.parse_args()
    if args.decoder_only and not args.start:
        parser.error("--decoder-only needs --start")
    return args


def main() -> None:
    args = parse_arguments(__doc__, crop=64, rate=1e-3, bf16=False)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    vae = AutoencoderKL.from_pretrained(args.start) if args.start else build_vae()
    vae = vae.float().to(device, memory_format=torch.channels_last)
    if args.decoder_only:
        vae.encoder.requires_grad_(False)
    train(vae, args, lambda: sample_batch(rng, args.batch, args.crop), reconstruct)
    if not args.decoder_only:
        mean, deviation = measure_latents(vae, rng)
        vae.register_to_config(shift_factor=mean, scaling_factor=1 / deviation)
    vae.save_pretrained(args.output)


if __name__ == "__main__":
    main()
