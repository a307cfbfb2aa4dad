"""What the training of both demo models shares: optimiser, moving average, state, and the loop.

Progress is measured in steps, so a run may be paused at any time. SIGTERM and SIGINT end it after
the current step with the state saved.
"""

from __future__ import annotations

import argparse
import math
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase


class Trainer(ABC):
    """AdamW on a model's weights, and their moving average; both go into --state."""

    def __init__(self, model: torch.nn.Module, args: argparse.Namespace) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device)
        self.args = args
        self.optimizer = torch.optim.AdamW(
            model.parameters(), args.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        )
        self.average = [p.detach().clone() for p in model.parameters()]
        self.step = 0
        if args.state.exists():
            self._load()

    @abstractmethod
    def train_step(self, choice: int, done: int, rate: float) -> float:
        """One step on one batch of the recipe `choice` at a learning rate; returns the loss."""

    def add_noise(
        self, clean: torch.Tensor, flow_shift: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Noise, a timestep for every sample, and what lies between clean and noise then."""
        noise = torch.randn_like(clean)
        timestep = sample_timesteps(len(clean), flow_shift).to(self.device)
        return noise, timestep, torch.lerp(clean, noise, timestep[:, None, None])

    def autocast(self) -> torch.autocast:
        """bf16, unless --fp32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=not self.args.fp32)

    def update(self, loss: torch.Tensor, rate: float) -> float:
        """One step of AdamW down a loss; returns the loss."""
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

    def run_stage(self) -> None:
        """--steps calls of train_step, each with a recipe drawn by its weight."""
        args, stop = self.args, False

        def ask_to_stop(*_: object) -> None:
            nonlocal stop
            stop = True

        signal.signal(signal.SIGTERM, ask_to_stop)
        signal.signal(signal.SIGINT, ask_to_stop)
        weights = torch.tensor([recipe.weight for recipe in args.recipe])
        sums: dict[int, list[float]] = {i: [] for i in range(len(args.recipe))}
        began, cpu_began = time.time(), time.process_time()
        for done in range(args.steps):
            choice = int(torch.multinomial(weights, 1))
            sums[choice].append(self.train_step(choice, done, learning_rate(args, done)))
            if (done + 1) % 25 == 0:
                means = " ".join(f"{sum(v) / len(v):.4f}" if v else "-" for v in sums.values())
                print(
                    f"step {self.step} ({done + 1}/{args.steps}) loss {means}, "
                    f"{time.time() - began:.0f} s, {time.process_time() - cpu_began:.0f} s of CPU",
                    flush=True,
                )
                sums = {i: [] for i in sums}
            if (done + 1) % args.save_every == 0:
                self.save()
            if stop:
                break
        self.save()


def sample_timesteps(batch: int, shift: float) -> torch.Tensor:
    """Timesteps in 0..1 (1 is noise): logit-normal, drawn towards noise, where the text decides.

    Shifted as FlowMatchEulerDiscreteScheduler shifts its sigmas.
    """
    t = torch.sigmoid(1.1 * torch.randn(batch) + 0.5)
    return shift * t / (1 + (shift - 1) * t)


def learning_rate(args: argparse.Namespace, done: int) -> float:
    """Linear warm-up, constant, and cosine decay to 5 % over the last --decay-steps."""
    warm = min(1.0, (done + 1) / args.warmup_steps)
    left = args.steps - done
    if args.decay_steps and left < args.decay_steps:
        return args.rate * warm * (0.05 + 0.475 * (1 - math.cos(math.pi * left / args.decay_steps)))
    return args.rate * warm


def make_parser(
    description: str, model_help: str, recipe_help: str, parse_recipe: Callable[[str], object]
) -> argparse.ArgumentParser:
    """The options that every kind of training has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, help=model_help)
    add("--from-nothing", action="store_true", help="random weights instead of the folder's")
    add("--recipe", type=parse_recipe, nargs="+", required=True, help=recipe_help)
    add("--state", type=Path, required=True, help="training state: read if there, written")
    add("--steps", type=int, required=True, help="steps of this stage")
    add("--rate", type=float, default=6e-4, help="learning rate (default: %(default)s)")
    add("--warmup-steps", type=int, default=100)
    add("--decay-steps", type=int, default=0, help="steps at the end over which the rate decays")
    add("--caption-dropout", type=float, default=0.1)
    add("--average-decay", type=float, default=0.998)
    add("--save-every", type=int, default=200)
    add("--seed", type=int, default=0)
    add("--compile", action="store_true", help="torch.compile the model")
    add("--fp32", action="store_true", help="no bf16: faster on CPUs without AMX")
    return parser


def recipe_fields(text: str, names: str) -> tuple[list[int], float]:
    """Reads the integers that `names` lists, separated by colons, and a weight if there is one."""
    fields, count = text.split(":"), names.count(":") + 1
    if len(fields) not in (count, count + 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not {names}[:WEIGHT]")
    return [int(f) for f in fields[:count]], float(fields[count]) if len(fields) > count else 1.0


def load_tokenizers(folder: Path) -> tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase]:
    """Both tokenizers of a model folder."""
    names = ("tokenizer", "tokenizer_2")
    return tuple(AutoTokenizer.from_pretrained(folder / name) for name in names)


def drop_captions(captions: list[str], share: float) -> list[str]:
    """Empties a random share of captions, which guidance needs."""
    dropped = torch.rand(len(captions)) < share
    return ["" if drop else c for c, drop in zip(captions, dropped, strict=True)]
