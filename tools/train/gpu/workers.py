"""Processes that draw samples into shared memory, beside the training.

They are forked before torch is imported, and need numpy and tokenizers only. A chunk of samples of
one side fills one slot of a ring in shared memory; only the slot's number and the token ids go
through a queue. Training says through `want` how much of each side is lacking.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import multiprocessing
import os
import queue
import time
from collections.abc import Sequence

import numpy as np
from gpu.sources import Source

KILL_ON_PARENTS_DEATH = 1  # Linux's prctl


def die_with_parent() -> None:
    """Has Linux kill this process when the one that forked it ends, however that ends."""
    ctypes.CDLL(None).prctl(KILL_ON_PARENTS_DEATH, 9)


class Ring:
    """Slots of the same number of bytes, in memory that forked processes share."""

    def __init__(self, slots: int, slot_bytes: int) -> None:
        self.slots, self.slot_bytes = slots, slot_bytes
        self._memory = mmap.mmap(-1, slots * slot_bytes)

    def view(self, slot: int, shape: tuple[int, ...]) -> np.ndarray:
        """The beginning of a slot as bytes of a shape."""
        count = math.prod(shape)
        if count > self.slot_bytes:
            raise ValueError(f"{count} bytes do not fit into a slot of {self.slot_bytes}")
        return np.frombuffer(self._memory, np.uint8, count, slot * self.slot_bytes).reshape(shape)


class Workers:
    """Forked processes that draw chunks of a source. `want` [sides] are weights of what to draw.

    `ready` holds (slot, side, token ids...); who has taken a chunk gives its slot back to `free`.
    """

    def __init__(
        self, source: Source, sides: Sequence[int], count: int, slots: int, seed: int
    ) -> None:
        context = multiprocessing.get_context("fork")
        self.source, self.sides = source, list(sides)
        self.ring = Ring(slots, source.slot_bytes)
        self.free, self.ready = context.Queue(), context.Queue()
        self.want = context.Array("d", [1.0] * len(self.sides), lock=False)
        self._seed, self._parent = seed, os.getpid()
        self._processes = [
            context.Process(target=self._work, args=(i,), daemon=True) for i in range(count)
        ]
        for process in self._processes:
            process.start()
        for slot in range(slots):  # after the forks: the queue's own thread begins here
            self.free.put(slot)

    def samples(self, slot: int, side: int) -> np.ndarray:
        """The samples of a slot: bytes [chunk, ...]."""
        return self.ring.view(slot, (self.source.chunk(side), *self.source.shape(side)))

    def _work(self, number: int) -> None:
        die_with_parent()
        os.nice(5)
        rng = np.random.default_rng([self._seed, number])
        while os.getppid() == self._parent:
            want = np.array(self.want[:])
            if want.sum() <= 0:
                time.sleep(0.01)
                continue
            try:
                slot = self.free.get(timeout=1.0)
            except queue.Empty:
                continue
            side = self.sides[int(rng.choice(len(want), p=want / want.sum()))]
            texts = [self.source.draw(rng, sample) for sample in self.samples(slot, side)]
            self.ready.put((slot, side, *self.source.tokenize(texts)))

    def stop(self) -> None:
        """Ends the processes."""
        for process in self._processes:
            process.kill()
