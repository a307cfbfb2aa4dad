"""Trains the demo's FLUX transformer with its T5 and CLIP text encoders by rectified flow.

Reads a model folder (VAE, tokenizers and, unless --from-nothing, weights to start from), trains one
stage, and keeps everything that is needed to go on in --state. Stages are runs of this script with
the same --state, see README.md. `export.py` writes the moving average of the weights into a model
folder.

Progress is measured in steps, so a run may be paused at any time. SIGTERM and SIGINT end it after
the current step with the state saved.
"""

from __future__ import annotations

import argparse
import math
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from flux_model import TEXT_TOKENS, DemoFlux, Geometry, TokenizerPair
from flux_model import rotary_angles, use_window_positions
from latent_bank import LatentBank, WindowShape
from transformers import AutoTokenizer


@dataclass
class Recipe:
    """One kind of training sample, written SIDE:WINDOW:SCATTERED:BATCH[:WEIGHT].

    Picture side in pixels, window side in tokens, scattered tokens, batch, and how often the recipe
    is chosen against the others of the stage.
    """

    picture_side: int
    window: WindowShape
    batch: int
    weight: float = 1.0

    @staticmethod
    def parse(text: str) -> Recipe:
        fields = text.split(":")
        if len(fields) not in (4, 5):
            expected = "SIDE:WINDOW:SCATTERED:BATCH[:WEIGHT]"
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
        side, window, scattered, batch = (int(f) for f in fields[:4])
        weight = float(fields[4]) if len(fields) == 5 else 1.0
        return Recipe(side, WindowShape(window, scattered), batch, weight)

    @property
    def tokens_of_whole_picture(self) -> int:
        return (self.picture_side // 8) ** 2


    def key_bias(self, device: torch.device) -> torch.Tensor | None:
        """Geometry.key_bias: a scattered token stands for all that the window leaves out."""
        side, scattered = self.window.side, self.window.scattered
        if scattered == 0:
            return None
        bias = torch.zeros(TEXT_TOKENS + side**2 + scattered, device=device)
        bias[-scattered:] = math.log((self.tokens_of_whole_picture - side**2) / scattered)
        return bias


class Trainer:
    """Model, optimiser and moving average of the weights."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        self.args = args
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizers = TokenizerPair(
            AutoTokenizer.from_pretrained(args.model / "tokenizer"),
            AutoTokenizer.from_pretrained(args.model / "tokenizer_2"),
        )
        if args.from_nothing:
            sizes = (len(self.tokenizers.clip), len(self.tokenizers.t5))
            self.model = DemoFlux.from_nothing(*sizes)
        else:
            self.model = DemoFlux.from_folder(args.model)
        self.model.to(self.device)
        use_window_positions(self.model.transformer)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), args.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        )
        self.average = [p.detach().clone() for p in self.model.parameters()]
        self.step = 0
        if args.state.exists():
            self._load()
        self.forward = torch.compile(self.model, dynamic=False) if args.compile else self.model

    def train_step(self, bank: LatentBank, recipe: Recipe, rate: float) -> float:
        """One step of AdamW on one batch; returns the loss."""
        clean, positions, captions = bank.draw(recipe.batch, recipe.window)
        dropped = torch.rand(len(captions)) < self.args.caption_dropout
        captions = ["" if drop else c for c, drop in zip(captions, dropped, strict=True)]
        clip_ids, t5_ids = (ids.to(self.device) for ids in self.tokenizers(captions))
        clean, positions = clean.to(self.device), positions.to(self.device)
        noise = torch.randn_like(clean)
        timestep = sample_timesteps(recipe).to(self.device)
        noisy = torch.lerp(clean, noise, timestep[:, None, None])
        geometry = Geometry(*rotary_angles(positions), recipe.key_bias(self.device))
        with torch.autocast(self.device.type, torch.bfloat16):
            velocity = self.forward(noisy, timestep, geometry, clip_ids, t5_ids)
        loss = torch.nn.functional.mse_loss(velocity.float(), noise - clean)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return loss.item()

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.args.average_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, list(self.model.parameters()), 1 - decay)

    def save(self) -> None:
        """Writes the state beside the old one, then swaps them."""
        names = [name for name, _ in self.model.named_parameters()]
        state = {
            "model": self.model.state_dict(),
            "average": dict(zip(names, self.average, strict=True)),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        self.args.state.parent.mkdir(parents=True, exist_ok=True)
        partial = self.args.state.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.args.state)

    def _load(self) -> None:
        state = torch.load(self.args.state, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.average = [state["average"][name] for name, _ in self.model.named_parameters()]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def sample_timesteps(recipe: Recipe) -> torch.Tensor:
    """Timesteps in 0..1 (1 is noise): logit-normal, drawn towards noise, where the text decides.

    Shifted as FlowMatchEulerDiscreteScheduler shifts its sigmas for the whole picture's tokens.
    """
    mu = 0.5 + (recipe.tokens_of_whole_picture - 256) * (1.15 - 0.5) / (4096 - 256)
    t = torch.sigmoid(1.1 * torch.randn(recipe.batch) + 0.5)
    return math.exp(mu) * t / (1 + (math.exp(mu) - 1) * t)


def learning_rate(args: argparse.Namespace, done: int) -> float:
    """Linear warm-up, constant, and cosine decay to 5 % over the last --decay-steps."""
    warm = min(1.0, (done + 1) / args.warmup_steps)
    left = args.steps - done
    if args.decay_steps and left < args.decay_steps:
        return args.rate * warm * (0.05 + 0.475 * (1 - math.cos(math.pi * left / args.decay_steps)))
    return args.rate * warm


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, help="diffusers folder with VAE and tokenizers")
    add("--state", type=Path, required=True, help="training state: read if there, written")
    add("--from-nothing", action="store_true", help="random weights instead of the folder's")
    add("--recipe", type=Recipe.parse, nargs="+", required=True, help=Recipe.__doc__)
    add("--steps", type=int, required=True, help="steps of this stage")
    add("--rate", type=float, default=6e-4, help="learning rate (default: %(default)s)")
    add("--warmup-steps", type=int, default=100)
    add("--decay-steps", type=int, default=0, help="steps at the end over which the rate decays")
    counts = "shares of scenes with 1, 2, 3 objects"
    add("--counts", type=float, nargs="+", default=[0.5, 0.4, 0.1], help=counts)
    add("--caption-dropout", type=float, default=0.1)
    add("--average-decay", type=float, default=0.998)
    add("--bank", type=int, default=2048, help="encoded scenes kept per picture size")
    add("--new-scene-every", type=int, default=2, help="steps between new scenes")
    add("--save-every", type=int, default=200)
    add("--seed", type=int, default=0)
    add("--compile", action="store_true", help="torch.compile the model")
    return parser.parse_args()


def make_banks(args: argparse.Namespace, trainer: Trainer) -> dict[int, LatentBank]:
    """One bank per picture side, with enough scenes to begin."""
    vae = AutoencoderKL.from_pretrained(args.model / "vae", torch_dtype=torch.bfloat16)
    vae.eval().to(trainer.device, memory_format=torch.channels_last)
    banks = {}
    for side in {r.picture_side for r in args.recipe}:
        seed = args.seed * 1000 + side + trainer.step  # a resumed stage sees new scenes
        banks[side] = LatentBank(vae, side, args.bank, tuple(args.counts), seed)
        for _ in range(8):
            banks[side].add_new_scenes(4)
    return banks


def main() -> None:
    args = parse_arguments()
    trainer = Trainer(args)
    banks = make_banks(args, trainer)
    stop = False

    def ask_to_stop(*_: object) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    weights = torch.tensor([r.weight for r in args.recipe])
    sums: dict[int, list[float]] = {i: [] for i in range(len(args.recipe))}
    began, cpu_began = time.time(), time.process_time()
    for done in range(args.steps):
        choice = int(torch.multinomial(weights, 1))
        recipe = args.recipe[choice]
        bank = banks[recipe.picture_side]
        if done % args.new_scene_every == 0:
            bank.add_new_scenes(1)
        loss = trainer.train_step(bank, recipe, learning_rate(args, done))
        sums[choice].append(loss)
        if (done + 1) % 25 == 0:
            means = " ".join(f"{sum(v) / len(v):.4f}" if v else "-" for v in sums.values())
            print(
                f"step {trainer.step} ({done + 1}/{args.steps}) loss {means}, "
                f"{time.time() - began:.0f} s, {time.process_time() - cpu_began:.0f} s of CPU",
                flush=True,
            )
            sums = {i: [] for i in sums}
        if (done + 1) % args.save_every == 0:
            trainer.save()
        if stop:
            break
    trainer.save()


if __name__ == "__main__":
    main()
