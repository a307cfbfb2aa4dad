"""One model call of each step of a generation: the state of each item of its batch, and what it predicted."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from tamias import SparseSession


@dataclass(frozen=True, eq=False)
class Item:
    """One item of a batch: its state and its text.

    text_rows: the rows of the text that are no padding, of which there are text_tokens; None: all.
    """

    session: SparseSession
    text_tokens: int
    text_rows: torch.Tensor | None


@dataclass(frozen=True)
class Output:
    """The form of a prediction: the shape of each item, [1, ...] or, of a list, as it stands there."""

    shapes: list[torch.Size]
    dtype: torch.dtype
    is_list: bool


@dataclass(eq=False)
class Invocation:
    """A model call of each step, with the state of each item of its batch."""

    items: list[Item] = field(default_factory=list)
    # The step that the sessions are at.
    step: int = -1
    # Whether a step has run, so that others may be skipped.
    has_run: bool = False
    output: Output | None = None

    def begin(self, step: int, time: float) -> str:
        """The kind of the step. Steps at which this invocation was not called are passed over."""
        kind = ""
        while self.step < step:
            self.step += 1
            for item in self.items:
                kind = item.session.begin_step(self.step, time)
        return kind

    def end(self) -> None:
        for item in self.items:
            item.session.end_step()


def report_of(invocations: list[Invocation]) -> dict[str, float]:
    """What was left out of attention and MLPs, in the mean over all items, and the size of their state."""
    reports = [item.session.report() for invocation in invocations for item in invocation.items]

    def mean(name: str) -> float:
        return sum(report[name] for report in reports) / len(reports) if reports else 0.0

    return {
        "attention_sparsity": mean("attention_sparsity"),
        "mlp_sparsity": mean("mlp_sparsity"),
        "state_bytes": sum(report["state_bytes"] for report in reports),
    }


def kind_of(kinds: list[str]) -> str:
    """Of a step with these kinds of invocations: skipped is what all skip."""
    return min(kinds, key=("full", "sparse", "skip").index, default="skip")
