"""Weights in training on whole pictures or films: losses, steps, the moving average by time."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import torch
from demo_model import DemoModel, drop_captions, flow_loss
from gpu.banks import Bank, to_device
from gpu.clock import Clock, Schedule, average_share
from gpu.compiling import Compiler
from gpu.optimizer import Optimizer
from weights import Parts, like, load_parts, named_weights


def is_matrix(part: str, name: str, weight: torch.Tensor) -> bool:
    """What Muon takes: the matrices of attention and MLP in the transformer's blocks."""
    in_block = part == "transformer" and "transformer_blocks." in name and "refiner" not in name
    return in_block and weight.ndim == 2 and "norm" not in name


class Training:
    """The weights of a model folder, trained by a schedule on banks of samples."""

    def __init__(
        self,
        model: DemoModel,
        banks: Mapping[int, Bank],
        schedule: Schedule,
        args: argparse.Namespace,
        dtype: torch.dtype,
        clock: Clock,
    ) -> None:
        self.model, self.dtype = model, dtype
        self.parts = load_parts(args.model, model.files, model.device)
        trained = [x for x in named_weights(self.parts) if model.is_trained(x[0], x[1])]
        self._names = [(part, name) for part, name, _ in trained]
        self._weights = [weight for _, _, weight in trained]
        matrices = [w for part, name, w in trained if is_matrix(part, name, w)]
        known = {id(w) for w in matrices}
        others = [w for w in self._weights if id(w) not in known]
        self._optimizer = Optimizer(matrices, others, args.muon_rate, args.rate)
        self._average = [w.detach().clone() for w in self._weights]
        self._good = [w.clone() for w in self._average]
        self._banks, self._schedule, self._clock = banks, schedule, clock
        self._dropout, self._constant = args.dropout, args.average
        self.tables = {side: model.tables(side) for side in schedule.batches}
        self._empty = model.ids([""])
        self.compiler = Compiler(model, self.parts["transformer"], schedule.batches, dtype, clock)
        self.step = 0

    # -- a step

    def train_step(
        self, side: int, batch: int, fraction: float, seconds: float, elapsed: float
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """One step; returns the losses of the batch and of the small batch beside it, if any.

        `fraction` is the share of the training that is over, `seconds` what the last step took,
        `elapsed` the time since the training began.
        """
        for w in self._weights:
            w.grad = None
        loss, small = self._backward(side, batch, 1.0), None
        if self._schedule.takes_small(side, self.step, fraction):
            beside = self._schedule.small
            small = self._backward(beside.side, beside.batch, beside.weight)
        self._optimizer.step(self._schedule.rate(self.step, fraction))
        share = average_share(seconds, elapsed, self.step, self._constant)
        with torch.no_grad():
            torch._foreach_lerp_(self._average, self._weights, share)
        self.step += 1
        return loss, small

    def _backward(self, side: int, batch: int, weight: float) -> torch.Tensor:
        model, bank = self.model, self._banks[side]
        places = to_device(bank.choose(batch), model.device)
        ids = tuple(table[places].long() for table in bank.ids)
        text = model.encode(self.parts, drop_captions(ids, self._empty, self._dropout))
        clean = bank.latents[places].float()
        keys = model.keys(text.words, clean.shape[1])
        w, tables, blocks = self.parts["transformer"], self.tables[side], self.compiler.blocks(side)
        loss = flow_loss(
            clean,
            model.flow_shift(side),
            lambda noisy, t: model.velocity(w, noisy, text, t, tables, keys, self.dtype, blocks),
        )
        (loss * weight).backward()
        return loss.detach()

    # -- the average

    @torch.no_grad()
    def averaged(self) -> Parts:
        """The moving average, rounded to what an export holds."""
        rounded = (w.half().float() for w in self._average)
        return like(self.parts, dict(zip(self._names, rounded, strict=True)))

    @torch.no_grad()
    def keep_or_restore(self, finite: bool) -> None:
        """Keeps the average while all is well; goes back to it, at half the rates, when not."""
        finite = finite and all(torch.stack([a.isfinite().all() for a in self._average]).tolist())
        if finite:
            self._good = [a.clone() for a in self._average]
            return
        self._clock.say("LOSS IS NOT FINITE: back to the last good average, at half the rates")
        torch._foreach_copy_(self._weights, self._good)
        torch._foreach_copy_(self._average, self._good)
        self._optimizer.restart(0.5)
