"""The wall clock that training on a GPU goes by: what is due at which share of the time.

A run has so many seconds, whatever the machine does in them: stages, rates and the moving average
follow the share of the time that is over, 0 to 1, not steps.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WARM_UP_STEPS = 100


class Clock:
    """Seconds since the start of a run that has to end `seconds` after it, and its log."""

    def __init__(
        self, seconds: float, log: Path | None = None, start: float | None = None, who: str = ""
    ) -> None:
        self.start = time.time() if start is None else start
        self.seconds = seconds
        self._log, self._who = log, who

    @property
    def now(self) -> float:
        return time.time() - self.start

    @property
    def left(self) -> float:
        return self.seconds - self.now

    def say(self, *words: object) -> None:
        """A line with the time, on the screen and in the log."""
        line = f"[{self.now:6.1f}] {self._who}" + " ".join(map(str, words))
        print(line, flush=True)
        if self._log is not None:
            with self._log.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def _fields(text: str, names: str, kinds: Sequence[type]) -> list:
    parts = text.split(":")
    try:
        if len(parts) != len(kinds):
            raise ValueError
        return [kind(part) for kind, part in zip(kinds, parts)]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {names}") from None


@dataclass(frozen=True)
class Stage:
    """A part of the training: SIDE:BATCH:SHARE, side in pixels, share of the training time."""

    side: int
    batch: int
    share: float

    @staticmethod
    def parse(text: str) -> Stage:
        return Stage(*_fields(text, "SIDE:BATCH:SHARE", (int, int, float)))


@dataclass(frozen=True)
class SmallBatches:
    """Small pictures beside later stages: SIDE:BATCH:EVERY:UNTIL:WEIGHT.

    A batch with every so manieth step, until a share of the training is over, its loss weighted.
    """

    side: int
    batch: int
    every: int
    until: float
    weight: float

    @staticmethod
    def parse(text: str) -> SmallBatches:
        names = "SIDE:BATCH:EVERY:UNTIL:WEIGHT"
        return SmallBatches(*_fields(text, names, (int, int, int, float, float)))


@dataclass(frozen=True)
class Schedule:
    """What is due at a share of the training; `flat` is the share before the rate falls to zero."""

    stages: tuple[Stage, ...]
    small: SmallBatches
    flat: float

    @property
    def batches(self) -> dict[int, int]:
        """The batch of every side, in the order in which sides are needed."""
        found: dict[int, int] = {}
        for side, batch in [(s.side, s.batch) for s in self.stages]:
            found.setdefault(side, batch)
        found.setdefault(self.small.side, self.small.batch)
        return found

    def stage_at(self, fraction: float) -> int:
        """The stage that is due."""
        over = 0.0
        for number, stage in enumerate(self.stages[:-1]):
            over += stage.share
            if fraction < over:
                return number
        return len(self.stages) - 1

    def takes_small(self, side: int, step: int, fraction: float) -> bool:
        """Whether a step of a side has a small batch beside it."""
        small = self.small
        return side != small.side and fraction < small.until and step % small.every == 0

    def rate(self, step: int, fraction: float) -> float:
        """The learning rate's factor: warm-up by steps, flat, and straight to zero by the clock."""
        fall = 1.0 if fraction < self.flat else max(0.0, (1 - fraction) / (1 - self.flat))
        return min(1.0, (step + 1) / WARM_UP_STEPS) * fall


def average_share(seconds: float, elapsed: float, step: int, constant: float) -> float:
    """How far the moving average goes towards the weights in a step of so many seconds.

    Its time constant is `constant` times the training so far, so that early weights are forgotten.
    """
    decay = math.exp(-seconds / max(0.3, constant * elapsed))
    return min(1.0, max(1 - decay, 1 / (10 + step)))
