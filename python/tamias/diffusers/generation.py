"""Generations, steps and invocations, told apart by the calls of a transformer alone.

A call with the timestep and latents of the step under way is another invocation of that step (guidance calls
the model twice). A timestep further on is the next step, if the text and whatever else the call is given are
those of an invocation before. Anything else begins a new generation. So nobody counts, whatever the pipeline
and its scheduler.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from tamias.denoising.invocation import Invocation

# More calls of a step than any guidance has are repeated generations of one step with the same seed.
_MOST_INVOCATIONS = 8


def tensors_of(value: Any) -> list[torch.Tensor]:
    """A tensor, or a list of them."""
    if isinstance(value, torch.Tensor):
        return [value]
    return list(value) if isinstance(value, (list, tuple)) else []


def _is_same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal, NaN in the same places."""
    if a is b:
        return True
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(a, b) or (
        a.is_floating_point()
        and torch.equal(a.isnan(), b.isnan())
        and torch.equal(a.nan_to_num(), b.nan_to_num())
    )


def _are_equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) and all(_is_same(x, y) for x, y in zip(a, b))


@dataclass(frozen=True, eq=False)
class Inputs:
    """What tells calls apart: timestep, latents, and conditions, which are the same from step to step."""

    time: float
    latents: list[torch.Tensor]
    conditions: dict[str, list[torch.Tensor]]

    def has_latents_of(self, other: Inputs) -> bool:
        return _are_equal(self.latents, other.latents)

    def is_like(self, other: Inputs) -> bool:
        """Whether these may be one invocation, at different steps."""
        shapes = [(x.shape, x.dtype) for x in self.latents]
        return (
            shapes == [(x.shape, x.dtype) for x in other.latents]
            and self.conditions.keys() == other.conditions.keys()
            and all(_are_equal(value, other.conditions[name]) for name, value in self.conditions.items())
        )

    def kept(self) -> Inputs:
        """With latents that a scheduler may not change in place."""
        return Inputs(self.time, [x.clone() for x in self.latents], self.conditions)


@dataclass(eq=False, kw_only=True)
class KnownInvocation(Invocation):
    """An invocation that its inputs tell from others."""

    inputs: Inputs


class Generation:
    """The steps of one generation."""

    def __init__(self, inputs: Inputs) -> None:
        self.step = 0
        self.invocations: list[KnownInvocation] = []
        # For each step the kinds of its invocations.
        self.kinds: list[list[str]] = []
        self._begin_step(inputs)

    def _begin_step(self, inputs: Inputs) -> None:
        self._first = inputs.kept()
        self._called: list[KnownInvocation] = []
        self.kinds.append([])

    def _known(self, inputs: Inputs) -> Iterator[KnownInvocation]:
        return (
            invocation
            for invocation in self.invocations
            if invocation not in self._called and invocation.inputs.is_like(inputs)
        )

    def invocation_of(self, inputs: Inputs, time_rises: bool) -> KnownInvocation | None:
        """The invocation that a call with these inputs is; None: the call is not of this generation."""
        change = inputs.time - self._first.time
        if change == 0 and inputs.has_latents_of(self._first):
            invocation = next(self._known(inputs), None)
            if invocation is None:
                if len(self.invocations) == _MOST_INVOCATIONS:
                    return None
                invocation = KnownInvocation(inputs=inputs)
                self.invocations.append(invocation)
        else:
            # Timesteps of 16 bits may be the same for two steps; those of two generations of one step are.
            has_moved_on = change > 0 if time_rises else change < 0
            if not has_moved_on and not (change == 0 and self.step > 0):
                return None
            self._called = []
            invocation = next(self._known(inputs), None)
            if invocation is None:
                return None
            self.step += 1
            self._begin_step(inputs)
        self._called.append(invocation)
        return invocation
