"""Compiles the transformer's blocks in a thread beside the training, which goes on meanwhile.

For each side in turn a pass forward and backward runs on fixed numbers, with weights and a GPU
stream of its own. Compiled blocks are handed out once they are there and agree with the plain ones;
until then training takes the plain ones.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from blocks import PLAIN, Blocks, Text
from demo_model import DemoModel
from gpu.clock import Clock
from weights import Weights

TOLERANCE = 0.03  # relative, of loss and gradients' norm
GRADIENT_TOLERANCE = 0.1  # relative, of the gradients themselves, in bf16
# A thread that wants the interpreter waits so long for one that computes: the training thread wants
# it after every operation that it starts.
SWITCH_SECONDS = 5e-5


class Compiler(threading.Thread):
    """Blocks for batches by side. `blocks(side)` is what training takes now."""

    def __init__(
        self,
        model: DemoModel,
        weights: Weights,
        batches: Mapping[int, int],
        dtype: torch.dtype,
        clock: Clock,
        compiled: Blocks | None = None,
    ) -> None:
        super().__init__(daemon=True)
        self._model, self._batches, self._dtype, self._clock = model, batches, dtype, clock
        self._weights = {k: v.detach().clone().requires_grad_() for k, v in weights.items()}
        self._tables = {side: model.tables(side) for side in batches}
        self._compiled = Blocks.compiled() if compiled is None else compiled
        self._ready: dict[int, Blocks] = {}
        self._given_up: set[int] = set()
        self._cuda = model.device.type == "cuda"
        self._stream = torch.cuda.Stream() if self._cuda else None
        if self._cuda:
            torch.cuda.synchronize()  # weights and tables were made on another stream

    def blocks(self, side: int) -> Blocks:
        """Compiled blocks once they are ready and found right, the plain ones before."""
        return PLAIN if side in self._given_up else self._ready.get(side, PLAIN)

    def give_up(self, side: int) -> None:
        """Plain blocks for a side from now on: its batch has changed, or a step has failed."""
        self._given_up.add(side)

    def run(self) -> None:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            for side, batch in self._batches.items():
                if side not in self._given_up:
                    self._compile(side, batch)
        finally:
            sys.setswitchinterval(interval)
            self._weights.clear()

    def _compile(self, side: int, batch: int) -> None:
        began = time.perf_counter()
        try:
            with torch.cuda.stream(self._stream):  # does nothing without a GPU
                self._pass(side, batch, self._compiled)
                first = time.perf_counter() - began
                fast, *got = self._pass(side, batch, self._compiled)
                slow, *want = self._pass(side, batch, PLAIN)
            loss, norm, gradient = differences(got, want)
            fine = max(loss, norm) < TOLERANCE and gradient < GRADIENT_TOLERANCE
            self._clock.say(
                f"compiled {side} px x {batch} in {first:.1f} s; a pass takes {fast:.4f} s instead"
                f" of {slow:.4f} s; loss differs by {loss:.5f}, gradients by {gradient:.5f}"
                f"{'' if fine else ': NOT USED'}"
            )
            if fine:
                self._ready[side] = self._compiled
        except Exception:
            self._clock.say("COMPILING FAILED, goes on without:", traceback.format_exc()[-1500:])

    def _pass(
        self, side: int, batch: int, blocks: Blocks
    ) -> tuple[float, torch.Tensor, torch.Tensor]:
        """Seconds, loss, and all gradients of the transformer in one row."""
        model, device = self._model, self._model.device
        generator = torch.Generator(device).manual_seed(3)

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(shape, device=device, generator=generator)

        noisy, target = (draw(batch, model.tokens(side), model.channels) for _ in range(2))
        words = None
        if model.text_is_padded:
            words = torch.arange(batch, device=device) % 3 + model.text_tokens - 4
        text = Text(draw(batch, model.text_tokens, 128), draw(batch, 128), words)
        t = torch.linspace(0.05, 1.0, batch, device=device)
        keys = model.keys(words, noisy.shape[1])
        if self._cuda:
            self._stream.synchronize()
        began = time.perf_counter()
        velocity = model.velocity(
            self._weights, noisy, text, t, self._tables[side], keys, self._dtype, blocks
        )
        loss = F.mse_loss(velocity, target)
        gradients = torch.autograd.grad(loss, list(self._weights.values()))
        row = torch.cat([g.flatten() for g in gradients])
        if self._cuda:
            self._stream.synchronize()
        return time.perf_counter() - began, loss.detach(), row


def differences(got: list[torch.Tensor], want: list[torch.Tensor]) -> tuple[float, float, float]:
    """Relative differences of the losses, of the gradients' norms, and of the gradients."""
    loss = (got[0] / want[0] - 1).abs().item()
    norm = (got[1].norm() / want[1].norm() - 1).abs().item()
    return loss, norm, ((got[1] - want[1]).norm() / want[1].norm()).item()
