"""The two kinds of training run on a GPU, and the defaults of their options.

Sizes suit 80 GiB of GPU memory and more (the run of pictures took 35.5), rates and shares are those
of README.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LEAST_ROOM = 64


@dataclass(frozen=True)
class Kind:
    """What differs between pictures and films. Mappings are by side in pixels."""

    name: str
    model: Path
    prompts: Path
    stages: tuple[str, ...]
    small: str
    workers: int
    slots: int  # of shared memory, see gpu/sources.py for their bytes
    judges: int
    room: Mapping[int, int]  # samples that a bank holds
    ahead: Mapping[int, int]  # samples that are drawn before training asks for more
    fresh: Mapping[int, float]  # samples drawn for each one that is trained on
    encoded_at_once: int  # pixels of a frame, times samples
    attention: tuple[str, ...]  # ways that are compared, see gpu/attention.py
    export_every: float  # seconds
    judged: int  # prompts, while training
    guidances: tuple[float, ...]  # beside --guidance, at the end, while there is time
    columns: int  # of a sheet


PICTURE = Kind(
    name="picture",
    model=ROOT / "models/demo-flux",
    prompts=ROOT / "tools/quality/prompts.txt",
    stages=("128:128:0.16", "256:64:0.20", "512:24:0.64"),
    small="128:128:2:0.85:0.5",
    workers=14,
    slots=192,
    judges=4,
    room={128: 262144, 256: 98304, 512: 49152},
    ahead={128: 16384, 256: 6144, 512: 3072},
    # A small picture costs the GPU little to train on, so encoding weighs more there.
    fresh={128: 0.3, 256: 0.4, 512: 0.6},
    encoded_at_once=16 * 512**2,
    attention=("flash", "cudnn"),
    export_every=55.0,
    judged=16,
    guidances=(2.0, 1.5),
    columns=4,
)
FILM = Kind(
    name="film",
    model=ROOT / "models/demo-video",
    prompts=ROOT / "tools/quality/motion_prompts.txt",
    stages=("64:192:0.14", "128:64:0.86"),
    small="64:192:3:1.0:0.5",
    workers=8,
    slots=96,
    judges=10,
    room={64: 12288, 128: 8192},
    ahead={
        64: 12288,
        128: 8192,
    },  # all that there is room for: films are drawn while the VAE trains
    fresh={},
    encoded_at_once=16 * 128**2,
    attention=("varlen", "efficient", "cudnn"),
    export_every=50.0,
    judged=32,
    guidances=(2.0, 5.0),
    columns=1,
)
KINDS = {kind.name: kind for kind in (PICTURE, FILM)}


def samples(table: Mapping[int, int], side: int, capacity: float) -> int:
    """An entry of `room` or `ahead`, times --capacity."""
    return max(LEAST_ROOM, int(capacity * table.get(side, 4096)))
