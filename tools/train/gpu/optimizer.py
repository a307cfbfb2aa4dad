"""Muon for matrices and AdamW for all else, with one factor on both rates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

MOMENTUM = 0.95


def orthogonalised(x: torch.Tensor, rounds: int = 5) -> torch.Tensor:
    """Newton-Schulz on a stack of matrices [n, rows, columns]: all singular values near 1."""
    tall = x.shape[-2] > x.shape[-1]
    if x.is_cuda:
        x = x.bfloat16()
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.mT if tall else x).float()


class Muon:
    """Momentum, orthogonalised; an update's mean square is (0.2 rate)^2, as AdamW's.

    Convolutions count as matrices of outputs x everything else.
    """

    def __init__(self, weights: Sequence[torch.Tensor], decay: float) -> None:
        self._decay = decay
        shapes = sorted({tuple(w.shape) for w in weights})
        self._groups = [[w for w in weights if tuple(w.shape) == s] for s in shapes]
        self._buffers = [
            torch.zeros((len(g), *g[0].shape), device=g[0].device) for g in self._groups
        ]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for group, buffer in zip(self._groups, self._buffers):
            gradient = torch.stack([w.grad for w in group])
            buffer.lerp_(gradient, 1 - MOMENTUM)
            update = orthogonalised(gradient.lerp_(buffer, MOMENTUM).flatten(2))
            scale = 0.2 * math.sqrt(max(update.shape[1:]))
            torch._foreach_mul_(group, 1 - rate * self._decay)
            updates = list(update.view(buffer.shape).unbind())
            torch._foreach_add_(group, updates, alpha=-rate * scale)

    def forget(self) -> None:
        """Momentum of zero."""
        for buffer in self._buffers:
            buffer.zero_()


class Optimizer:
    """Muon on `matrices`, AdamW on `others`, after clipping the norm of all gradients to 1."""

    def __init__(
        self,
        matrices: Sequence[torch.Tensor],
        others: Sequence[torch.Tensor],
        muon_rate: float,
        adam_rate: float,
        decays: tuple[float, float] = (0.02, 0.01),
        betas: tuple[float, float] = (0.9, 0.98),
    ) -> None:
        self._weights = [*matrices, *others]
        self._muon_rate, self._adam_rate = muon_rate, adam_rate
        self._muon = Muon(matrices, decays[0])
        self._adam = torch.optim.AdamW(
            others, adam_rate, betas=betas, weight_decay=decays[1], fused=True
        )

    def step(self, factor: float) -> None:
        """One step at a factor on both rates."""
        torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
        for group in self._adam.param_groups:
            group["lr"] = self._adam_rate * factor
        self._adam.step()
        self._muon.step(self._muon_rate * factor)

    def restart(self, factor: float) -> None:
        """Forgets all moments, and goes on at a factor of the rates."""
        self._adam.state.clear()
        self._muon.forget()
        self._muon_rate, self._adam_rate = self._muon_rate * factor, self._adam_rate * factor
