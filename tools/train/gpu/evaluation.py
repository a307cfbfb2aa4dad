"""Samples held-out prompts and has them judged, while training runs and at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from demo_model import sample, sampler_sigmas
from gpu.clock import Clock
from gpu.judges import Judges, make_sheet
from gpu.results import Results
from gpu.training import Training

SHEET_SAMPLES = 12
DECODED_AT_ONCE = 8
SAMPLED_AT_ONCE = 16
END_SECONDS = 12.0  # for the last export, the last verdicts, and leaving

Decode = Callable[[torch.Tensor], torch.Tensor]


class Evaluation:
    """Prompts, sampled from the training's average; prompt i takes seed i, as in tools/quality."""

    def __init__(
        self,
        training: Training,
        prompts: Sequence[str],
        judges: Judges,
        results: Results,
        clock: Clock,
        columns: int,
    ) -> None:
        self.decode: Decode  # is given when there is a VAE
        self._training, self._prompts = training, list(prompts)
        self._judges, self._results, self._clock, self._columns = judges, results, clock, columns
        self._ids = training.model.ids(self._prompts)
        self._waiting: list[tuple[dict, list]] = []
        # Of one sample, by side: of a step, and of decoding.
        self._seconds: dict[int, tuple[float, float]] = {}

    def _sample(
        self, places: slice, side: int, steps: int, guidance: float, seed: int = 0
    ) -> np.ndarray:
        """Samples of some prompts as bytes."""
        training, model = self._training, self._training.model
        numbers = range(*places.indices(len(self._prompts)))
        noise = torch.stack([model.start_noise(side, seed + i) for i in numbers]).to(model.device)
        ids, sigmas = [a[places] for a in self._ids], sampler_sigmas(steps, model.flow_shift(side))
        began = time.perf_counter()
        parts, tables = training.averaged(), training.tables[side]
        latents = sample(model, parts, tuple(ids), noise, tables, sigmas, guidance, training.dtype)
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        between = time.perf_counter()
        decoded = [self.decode(part).cpu() for part in latents.split(DECODED_AT_ONCE)]
        each = ((between - began) / steps, time.perf_counter() - between)
        self._seconds[side] = tuple(t / len(numbers) for t in each)
        return torch.cat(decoded).numpy()

    def run(self, side: int, count: int, steps: int, guidance: float) -> None:
        """Samples the first prompts; their verdicts are collected later."""
        began = time.perf_counter()
        samples = self._sample(slice(0, count), side, steps, guidance)
        entry = {"step": self._training.step, "at": round(self._clock.now, 1), "side": side}
        self.judge(entry, samples)
        self._results.write("sheet.png", make_sheet(samples[:SHEET_SAMPLES], self._columns))
        seconds = time.perf_counter() - began
        self._clock.say(f"sampled {len(samples)} prompts at {side} px: {seconds:.2f} s")

    def judge(self, entry: dict, samples: Sequence[np.ndarray]) -> None:
        """Has samples of the first prompts judged; `entry` says in the report what they are."""
        self._waiting.append((entry, self._judges.submit(samples, self._prompts)))

    def collect(self) -> None:
        """Reports the verdicts that are there."""
        for entry, tasks in list(self._waiting):
            if all(task.ready() for task in tasks):
                self._waiting.remove((entry, tasks))
                if not all(task.successful() for task in tasks):
                    self._clock.say("JUDGING FAILED of", entry)
                    continue
                entry |= self._judges.shares([task.get() for task in tasks])
                self._results.report["evals"].append(entry)
                self._clock.say("EVAL", entry)

    def expected(self, side: int, steps: int) -> float | None:
        """Seconds to sample all prompts; None before any was sampled at this side."""
        if side not in self._seconds:
            return None
        step, decoding = self._seconds[side]
        return len(self._prompts) * (steps * step + decoding)

    def finish(self, side: int, steps: int, guidances: Sequence[float]) -> None:
        """All prompts at full steps, as far as there is time, then again for other guidances."""
        final = self._results.report["final"] = {}
        for number, guidance in enumerate(guidances):
            expected = self.expected(side, steps) or 0.0
            if number and self._clock.left < END_SECONDS + 1.2 * expected:
                break
            samples = self._all_samples(side, steps, guidance)
            if number == 0:
                self._results.write("sheet.png", make_sheet(samples[:SHEET_SAMPLES], self._columns))
            verdicts = self._verdicts(samples)
            if verdicts:
                shares = self._judges.shares(verdicts)
                details = [v.as_json() for v in verdicts]
                final[f"guidance {guidance}"] = {"shares": shares, "verdicts": details}
                wrong = [i for i, v in enumerate(verdicts) if not v.right]
                self._clock.say(f"FINAL guidance {guidance}", shares, "not right:", wrong)
            self._results.write_report()

    def _all_samples(self, side: int, steps: int, guidance: float) -> list[np.ndarray]:
        samples: list[np.ndarray] = []
        for first in range(0, len(self._prompts), SAMPLED_AT_ONCE):
            began = time.perf_counter()
            samples.extend(
                self._sample(slice(first, first + SAMPLED_AT_ONCE), side, steps, guidance)
            )
            if self._clock.left < END_SECONDS / 2 + 1.2 * (time.perf_counter() - began):
                break
        return samples

    def _verdicts(self, samples: Sequence[np.ndarray]) -> list:
        verdicts = []
        for task in self._judges.submit(samples, self._prompts):
            task.wait(max(0.5, self._clock.left - END_SECONDS / 3))
            if not task.ready():
                self._clock.say(f"judging ended after {len(verdicts)} of {len(samples)}")
                break
            verdicts.append(task.get())
        return verdicts
