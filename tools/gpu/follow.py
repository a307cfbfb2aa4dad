"""Runs a program of ours for the times of its steps: the arrival of the lines in which it tells its progress.

So a run can be cut short and what it measured counts, and a film need not be decoded, nor written, which takes
FFmpeg.
"""

import re
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from programs import ROOT, show

LINE = re.compile(r"(encode prompt|denoise|decode) (\d+)/(\d+) (?:([a-z]+) )?[\d.]+ s")


@dataclass
class Followed:
    """What a stage did: its steps' kinds and seconds."""

    kinds: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    seconds_before: float = 0  # the stage, from the program's start on
    is_complete: bool = False
    is_cut: bool = False  # there was no more time
    peak_gpu_memory: int | None = None  # bytes, above what was in use before


class Peak:
    """The most that `read` says while the block runs, above what it said before; None: not known."""

    def __init__(self, read: Callable[[], int | None]) -> None:
        self.read, self.before, self.most = read, read(), 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self) -> None:
        while not self.ended.wait(0.02):
            self.most = max(self.most, self.read() or 0)

    def __enter__(self) -> "Peak":
        if self.before is not None:
            self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.ended.set()
        if self.before is not None:
            self.thread.join()

    def value(self) -> int | None:
        return None if self.before is None else max(self.most - self.before, 0)


def watch(process: subprocess.Popen, stage: str, log, followed: Followed) -> None:
    """Reads its lines until the stage is complete, or they end."""
    begin = last = time.monotonic()
    for line in process.stderr:
        now = time.monotonic()
        log.write(line)
        match = LINE.match(line)
        if not match or match[1] != stage:
            continue
        step, steps = int(match[2]), int(match[3])
        if step == 0:
            followed.seconds_before = now - begin
        else:
            followed.kinds.append(match[4] or stage)
            followed.seconds.append(now - last)
        last = now
        if step == steps:
            followed.is_complete = True
            return


def follow(
    command: list,
    stage: str,
    log: Path,
    environment: dict,
    seconds: float,
    read_memory: Callable[[], int | None],
) -> Followed:
    """Runs a command of at most ten steps (of more not each has a line) until `stage` is over, then ends it."""
    show(command)
    followed = Followed()
    with Peak(read_memory) as peak, log.open("a") as file:
        process = subprocess.Popen(
            [*map(str, command)], cwd=ROOT, stdout=file, stderr=subprocess.PIPE, env=environment, text=True
        )

        def cut() -> None:
            followed.is_cut = True
            process.kill()

        timer = threading.Timer(seconds, cut)
        timer.start()
        try:
            watch(process, stage, file, followed)
        finally:
            timer.cancel()
            process.kill()
            process.wait()
    followed.peak_gpu_memory = peak.value()
    return followed


def medians(followed: Followed, first: int = 0) -> dict[str, float]:
    """Of each kind of step, from step `first` on."""
    kinds = {}
    for kind, seconds in list(zip(followed.kinds, followed.seconds))[first:]:
        kinds.setdefault(kind, []).append(seconds)
    return {kind: statistics.median(times) for kind, times in kinds.items()}
