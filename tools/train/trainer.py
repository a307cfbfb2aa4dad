"""What the training of both demo models on windows of tokens shares: optimiser, moving average,
state, and the loop. Made for CPUs; train_gpu.py trains on whole pictures.

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

import numpy as np
import torch
from blocks import PLAIN, Blocks
from demo_model import drop_captions, flow_loss, load_model
from flux_model import FluxModel
from hunyuan_model import HunyuanModel
from weights import like, load_parts, named_weights

MODELS = {"picture": FluxModel, "film": HunyuanModel}


class Trainer(ABC):
    """AdamW on a model's weights, and their moving average; both go into --state."""

    def __init__(self, kind: str, args: argparse.Namespace) -> None:
        self.kind, self.args = kind, args
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = load_model(kind, args.model, self.device)
        self.parts = load_parts(args.model, self.model.files, self.device)
        trained = [x for x in named_weights(self.parts) if self.model.is_trained(x[0], x[1])]
        self.names = [(part, name) for part, name, _ in trained]
        self.weights = [weight for _, _, weight in trained]
        self.optimizer = torch.optim.AdamW(
            self.weights, args.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        )
        self.average = [w.detach().clone() for w in self.weights]
        self.empty = self.model.ids([""])
        self.blocks = Blocks.compiled() if args.compile else PLAIN
        self.dtype = torch.float32 if args.fp32 else torch.bfloat16
        self.step = 0
        if args.state.exists():
            self._load()

    @abstractmethod
    def train_step(self, choice: int, done: int, rate: float) -> float:
        """One step on one batch of the recipe `choice` at a learning rate; returns the loss."""

    def loss(
        self,
        clean: torch.Tensor,
        places: torch.Tensor,
        captions: list[str],
        flow_shift: float,
        bias: np.ndarray | None,
    ) -> torch.Tensor:
        """The loss of tokens [batch, tokens, channels] at places [batch, tokens, 3].

        bias [tokens] is added to the attention scores of each: the logarithm of how many tokens of
        the whole it stands for; None when these are all.
        """
        ids = drop_captions(self.model.ids(captions), self.empty, self.args.caption_dropout)
        clean, tables = clean.to(self.device), self.model.tables_at(places)
        text = self.model.encode(self.parts, ids)
        keys = self.model.keys(text.words, clean.shape[1])
        if bias is not None:
            bias = torch.from_numpy(bias).to(self.device)
            keys = self.model.window_keys(text.words, bias)
        w = self.parts["transformer"]
        return flow_loss(
            clean,
            flow_shift,
            lambda noisy, t: self.model.velocity(
                w, noisy, text, t, tables, keys, self.dtype, self.blocks
            ),
        )

    def update(self, loss: torch.Tensor, rate: float) -> float:
        """One step of AdamW down a loss; returns the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(self.args.average_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.weights, 1 - decay)
        return loss.item()

    def save(self) -> None:
        """Writes the state beside the old one, then swaps them."""
        average = dict(zip(self.names, self.average, strict=True))
        state = {
            "kind": self.kind,
            "weights": like(self.parts, {}),
            "average": like(self.parts, average),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        self.args.state.parent.mkdir(parents=True, exist_ok=True)
        partial = self.args.state.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.args.state)

    @torch.no_grad()
    def _load(self) -> None:
        state = torch.load(self.args.state, map_location=self.device)
        if state["kind"] != self.kind:
            raise SystemExit(f"{self.args.state}: state of a {state['kind']} model")
        for (part, name), weight in zip(self.names, self.weights, strict=True):
            weight.copy_(state["weights"][part][name])
        self.average = [state["average"][part][name] for part, name in self.names]
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


def learning_rate(args: argparse.Namespace, done: int) -> float:
    """Linear warm-up, constant, and cosine decay to 5 % over the last --decay-steps."""
    warm = min(1.0, (done + 1) / args.warmup_steps)
    left = args.steps - done
    if args.decay_steps and left < args.decay_steps:
        return args.rate * warm * (0.05 + 0.475 * (1 - math.cos(math.pi * left / args.decay_steps)))
    return args.rate * warm


def make_parser(
    description: str, recipe_help: str, parse_recipe: Callable[[str], object]
) -> argparse.ArgumentParser:
    """The options that both kinds of training have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, help="model folder to start from")
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
    add("--compile", action="store_true", help="torch.compile the blocks")
    add("--fp32", action="store_true", help="no bf16: faster on CPUs without AMX")
    return parser


def recipe_fields(text: str, names: str) -> tuple[list[int], float]:
    """Reads the integers that `names` lists, separated by colons, and a weight if there is one."""
    fields, count = text.split(":"), names.count(":") + 1
    if len(fields) not in (count, count + 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not {names}[:WEIGHT]")
    return [int(f) for f in fields[:count]], float(fields[count]) if len(fields) > count else 1.0
