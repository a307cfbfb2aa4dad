"""Banks of encoded samples on the GPU, and the thread that fills them beside the training.

A chunk out of the workers' ring is copied on a stream of its own and becomes visible when it is
complete. With a VAE at hand it is encoded at once (pictures). Without one the pixels are kept and
encoded when there is one (films, whose VAE is trained first).
"""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from gpu.clock import Clock
from gpu.workers import Workers

Encode = Callable[[torch.Tensor], torch.Tensor]


class Bank:
    """Samples of one side: latents [capacity, tokens, channels], pixels [capacity, ...], token ids.

    Latents or pixels may be missing. Without pixels the oldest make room for new ones; with them a
    full bank stays as it is.
    """

    def __init__(
        self,
        side: int,
        capacity: int,
        ids: Sequence[np.ndarray],
        device: torch.device,
        latents: tuple[int, int] | None = None,
        pixels: tuple[int, ...] | None = None,
    ) -> None:
        self.side, self.capacity = side, capacity
        kind = torch.float16 if device.type == "cuda" else torch.float32
        self.latents = self.pixels = None
        if latents:
            self.latents = torch.empty((capacity, *latents), dtype=kind, device=device)
        if pixels:
            self.pixels = torch.empty((capacity, *pixels), dtype=torch.uint8, device=device)
        self.ids = [
            torch.zeros((capacity, *a.shape[1:]), dtype=torch.int16, device=device) for a in ids
        ]
        self.arrived = self.encoded = 0  # ever; what comes next lies at arrived % capacity
        self.drawn = 0
        self._fresh = 0  # those before were drawn at least once
        self._rng = np.random.default_rng(side)

    @property
    def visible(self) -> int:
        """How many were ever ready to be drawn: encoded, or there when only pixels are wanted."""
        return self.arrived if self.latents is None else self.encoded

    @property
    def free(self) -> int:
        """How many may come without another leaving that has to stay."""
        return self.capacity - self.arrived if self.pixels is not None else self.capacity

    def choose(self, batch: int) -> np.ndarray:
        """Places [batch] of a batch: up to half never drawn before, the others from all."""
        visible = self.visible
        first = max(self._fresh, visible - self.capacity)
        new = max(0, min(batch - batch // 2, visible - first))
        picks = self._rng.integers(min(visible, self.capacity), size=batch)
        picks[:new] = np.arange(first, first + new) % self.capacity
        self._fresh = first + new
        self.drawn += batch
        return picks


def to_device(places: np.ndarray, device: torch.device) -> torch.Tensor:
    """Indices on the device; a copy from pageable memory would wait for all kernels before it."""
    tensor = torch.from_numpy(places)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class Feeder(threading.Thread):
    """Takes chunks from the workers into the banks and encodes them, as training consumes them.

    `ahead` and `fresh` (gpu/kinds.py) say how many: ahead + fresh * (samples trained on).
    """

    def __init__(
        self,
        workers: Workers,
        banks: Mapping[int, Bank],
        device: torch.device,
        ahead: Mapping[int, int],
        fresh: Mapping[int, float],
        encoded_at_once: int,
        clock: Clock,
        encode: Encode | None = None,
    ) -> None:
        super().__init__(daemon=True)
        self.encode = encode
        self.failed = False
        self._workers, self._banks, self._device = workers, banks, device
        self._ahead, self._fresh, self._at_once = ahead, fresh, encoded_at_once
        self._clock, self._halt = clock, False
        cuda = device.type == "cuda"
        self._stream = torch.cuda.Stream() if cuda else None
        size = workers.source.slot_bytes
        self._staging = torch.empty(size, dtype=torch.uint8, pin_memory=cuda)
        if cuda:
            torch.cuda.synchronize()  # the banks were made on another stream

    def halt(self) -> None:
        """Ends thread and drawing."""
        self._halt = True
        self._workers.want[:] = [0.0] * len(self._workers.sides)

    def run(self) -> None:
        try:
            while not self._halt:
                self._wish()
                self._take(patience=0.0 if self._encode_some() else 0.2)
        except Exception:
            self.failed = True
            self._clock.say("THE FEEDER FAILED:", traceback.format_exc()[-1500:])

    def _wish(self) -> None:
        """What the workers should draw now: a chunk of any side costs about as long."""
        for number, side in enumerate(self._workers.sides):
            bank = self._banks[side]
            target = self._ahead[side] + self._fresh.get(side, 0.0) * bank.drawn
            lack = min(target - bank.arrived, bank.free) / self._workers.source.chunk(side)
            self._workers.want[number] = max(0.0, min(lack, 64.0))

    def _on_stream(self, work: Callable[[], None]) -> None:
        """Runs GPU work beside the training's, and waits for it."""
        if self._stream is None:
            work()
            return
        with torch.cuda.stream(self._stream):
            work()
            event = torch.cuda.Event()
            event.record()
        while not event.query():
            time.sleep(0.001)

    def _take(self, patience: float) -> None:
        try:
            slot, side, *ids = self._workers.ready.get(patience > 0, patience)
        except queue.Empty:
            return
        bank = self._banks[side]
        samples = torch.from_numpy(self._workers.samples(slot, side))
        samples = samples[: max(0, min(len(samples), bank.free))]
        if len(samples):
            self._on_stream(lambda: self._store(bank, samples, ids))
            bank.arrived += len(samples)
            if bank.pixels is None:
                bank.encoded = bank.arrived
        self._workers.free.put(slot)

    def _store(self, bank: Bank, samples: torch.Tensor, ids: Sequence[np.ndarray]) -> None:
        staged = self._staging[: samples.numel()].view(samples.shape)
        staged.copy_(samples)
        staged = staged.to(self._device, non_blocking=True)
        places = (torch.arange(len(samples)) + bank.arrived) % bank.capacity
        places = places.to(self._device)
        for table, values in zip(bank.ids, ids, strict=True):
            table[places] = torch.from_numpy(values[: len(samples)]).to(self._device)
        if bank.pixels is not None:
            bank.pixels[places] = staged
        else:
            step = self._step(bank)
            tokens = torch.cat([self.encode(part) for part in staged.split(step)])
            bank.latents[places] = tokens.to(bank.latents.dtype)

    def _step(self, bank: Bank) -> int:
        return max(1, self._at_once // bank.side**2)

    def _encode_some(self) -> bool:
        """Encodes kept pixels of the bank that lags most; False if there are none."""
        if self.encode is None:
            return False
        banks = self._banks.values()
        waiting = [b for b in banks if b.latents is not None and b.encoded < b.arrived]
        if not waiting:
            return False
        bank = min(waiting, key=lambda b: b.encoded / b.capacity)
        first, last = bank.encoded, min(bank.arrived, bank.encoded + self._step(bank))

        def work() -> None:
            bank.latents[first:last] = self.encode(bank.pixels[first:last]).to(bank.latents.dtype)

        self._on_stream(work)
        bank.encoded = last
        return True
