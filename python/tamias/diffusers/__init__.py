"""Accelerates pipelines of diffusers: the attention product and the MLPs of a pipeline's transformer are
computed as column-sparse deltas, everything else by the model's own code.

    pipe = FluxPipeline.from_pretrained(...)
    with tamias.accelerate(pipe, "flux-1-dev") as acceleration:
        image = pipe(prompt).images[0]
        print(acceleration.report())

PyTorch and diffusers are imported when something is accelerated, not before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tamias import SparsityConfig
    from tamias.diffusers.acceleration import Acceleration

__all__ = ["accelerate", "restore"]


def accelerate(
    target: Any,
    sparsity: str | PathLike[str] | SparsityConfig = "auto",
    *,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    threads: int = 0,
) -> Acceleration:
    """Lets a pipeline of diffusers, or its transformer, run accelerated until it is restored.

    target: a pipeline (FluxPipeline, HunyuanVideoPipeline, WanPipeline, ...) or its transformer.
    sparsity: "auto", the model's profile; "off", dense; the name of a profile; the path of a YAML file; or a
        configuration.
    overrides: single keys to change, {"attn.top_keys": 0.1} or ["attn.top_keys=0.1"].
    threads: of the CPU; 0: all that there are.
    What was accelerated before is replaced.
    """
    from tamias.diffusers.acceleration import accelerate as accelerate_target

    return accelerate_target(target, sparsity, overrides, threads)


def restore(target: Any) -> None:
    """Gives a pipeline of diffusers, or its transformer, back as it was before accelerate()."""
    from tamias.diffusers.acceleration import restore as restore_target

    restore_target(target)
