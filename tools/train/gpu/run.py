"""One run of training on a GPU against the wall clock: pictures, or films once their VAE is there.

Imported after the workers and judges are forked, because it imports torch.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from demo_model import DemoModel, load_model
from gpu.attention import rank_attention, use_attention
from gpu.banks import Bank, Feeder
from gpu.clock import Clock, Schedule
from gpu.evaluation import END_SECONDS, Evaluation
from gpu.film_vae_run import VAE_FILES, choose_encoding, judge_vae, wait_for_vae
from gpu.judges import Judges
from gpu.kinds import Kind, samples
from gpu.results import Results
from gpu.sources import held_out_films, read_prompts
from gpu.training import Training
from gpu.workers import Workers
from picture_vae import PictureVae
from weights import Weights, save_parts

SAY_EVERY = 5.0  # seconds
QUEUED_STEPS = 4  # of kernels before the GPU is waited for, so that the clock is the GPU's
FIRST_RESERVE = 34.0  # seconds kept for the end, before sampling was timed
LONGEST_END = 25.0  # seconds of sampling at the end that time is kept for


def prepare_torch(args: argparse.Namespace, clock: Clock) -> torch.device:
    """Threads, seed, precision; the device to train on."""
    device = torch.device("cuda" if torch.cuda.is_available() and not args.cpu else "cpu")
    torch.set_num_threads(6 if device.type == "cuda" else 1)
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = True
        gibibytes = torch.cuda.mem_get_info()[1] >> 30
        clock.say("torch", torch.__version__, torch.cuda.get_device_name(), gibibytes, "GiB")
    return device


@dataclass
class Crew:
    """The processes of a run."""

    workers: Workers
    judges: Judges | None
    vae: subprocess.Popen | None = None

    def leave(self, code: int) -> None:
        """Ends them and this process, at once: no thread is waited for."""
        self.workers.stop()
        if self.judges is not None:
            self.judges.stop()
        if self.vae is not None and self.vae.poll() is None:
            self.vae.kill()
        sys.stdout.flush()
        os._exit(code)


def watch(crew: Crew, clock: Clock, results: Results) -> None:
    """Ends the run just before its time is over, whatever it is doing."""
    while clock.left > 2.0:
        time.sleep(0.2)
    clock.say("time is over: leaving")
    try:
        results.write_report(patience=0.5)
    finally:
        crew.leave(0)


class Run:
    """Everything that one run consists of."""

    def __init__(
        self, kind: Kind, args: argparse.Namespace, schedule: Schedule, clock: Clock, crew: Crew
    ) -> None:
        self.kind, self.args, self.schedule = kind, args, schedule
        self.clock, self.crew = clock, crew
        self.results = Results(args.output, {k: str(v) for k, v in vars(args).items()})
        threading.Thread(target=watch, args=(crew, clock, self.results), daemon=True).start()
        self.device = prepare_torch(args, clock)
        self.main_side = schedule.stages[-1].side
        self.model = load_model(kind.name, args.model, self.device)
        self.prompts = read_prompts(args.prompts)
        self.vae_weights: Weights | None = None  # when the VAE is trained, too
        self._choose_attention()
        self.banks = make_banks(kind, self.model, crew.workers, args.capacity)
        self.feeder = self._make_feeder()
        dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self.training = Training(self.model, self.banks, schedule, args, dtype, clock)
        self.evaluation = Evaluation(
            self.training, self.prompts, crew.judges, self.results, clock, kind.columns
        )

    def _choose_attention(self) -> None:
        kind, chosen = self.kind, self.args.attention
        self.attention = [chosen, "any"]
        if not chosen:
            sides = sorted(self.schedule.batches)
            self.attention = rank_attention(self.model, kind.attention, sides, self.clock)
        use_attention(self.model, self.attention[0])
        self.clock.say("attention:", self.attention[0])

    def _make_feeder(self) -> Feeder:
        kind, workers = self.kind, self.crew.workers
        ahead = {side: samples(kind.ahead, side, self.args.capacity) for side in self.banks}
        return Feeder(
            workers, self.banks, self.device, ahead, kind.fresh, kind.encoded_at_once, self.clock
        )

    def _use_picture_vae(self) -> None:
        half = torch.float16 if self.device.type == "cuda" else torch.float32
        vae = PictureVae(self.args.model, self.device, half)
        self.feeder.encode, self.evaluation.decode = vae.encode, vae.decode

    def _use_film_vae(self) -> None:
        """Waits for the VAE in training, and measures it: nothing later can be better than it."""
        vae, report = wait_for_vae(self.args, self.crew.vae, self.clock, self.device)
        self.results.report["vae"] = report or "as it was"
        self.vae_weights = vae.exact if report else None
        films = held_out_films(self.prompts[: self.args.judged], self.main_side)
        dtype = choose_encoding(vae, films, self.clock)
        self.feeder.encode = lambda clips: vae.encode(clips, dtype)
        self.evaluation.decode = lambda tokens: vae.decode(tokens, self.model.frames)
        judge_vae(vae, films, self.evaluation, self.clock)

    # -- the course of a run

    def go(self) -> None:
        """Trains until the time for the end is reached, exports, and judges all prompts."""
        if self.kind.name == "picture":
            self._use_picture_vae()
        self.feeder.start()
        if not self.args.no_compile:
            self.training.compiler.start()
        if self.kind.name == "film":
            self._use_film_vae()
        self._wait_for_samples()
        Loop(self).run()
        self.feeder.halt()
        drawn = {s: [b.drawn, b.arrived] for s, b in self.banks.items()}
        self.results.report["drawn"] = drawn
        self.clock.say(f"trained {self.training.step} steps; [trained on, drawn]:", drawn)
        if self.device.type == "cuda":
            gibibytes = torch.cuda.max_memory_allocated() / 2**30
            self.clock.say(f"GPU memory at most {gibibytes:.1f} GiB")
        self.export(last=True)
        guidances = (self.args.guidance, *self.kind.guidances)
        self.evaluation.finish(self.main_side, self.args.final_steps, guidances)
        self.evaluation.collect()
        self.results.write_report()
        self.clock.say("done")

    def _wait_for_samples(self) -> None:
        first = self.schedule.stages[0]
        need = {first.side: first.batch, self.schedule.small.side: 1}
        while any(self.banks[s].visible < min(n, self.banks[s].capacity) for s, n in need.items()):
            if self.feeder.failed:
                raise SystemExit("no samples come")
            time.sleep(0.02)
        there = {side: bank.visible for side, bank in self.banks.items()}
        self.clock.say("training begins; there are", there)

    def export(self, last: bool = False) -> None:
        """Writes the average, and the VAE where it is trained, too."""
        began, training = time.perf_counter(), self.training
        training.keep_or_restore(True)
        parts, files = training.averaged(), dict(self.model.files)
        if self.vae_weights is not None:
            parts["vae"], files = self.vae_weights, files | VAE_FILES
        with tempfile.TemporaryDirectory() as folder:
            paths = save_parts(parts, files, Path(folder))
            self.results.export(paths, Path(folder), training.step, self.clock.now, last)
        self.clock.say(f"export of step {training.step}: {time.perf_counter() - began:.2f} s")


def make_banks(kind: Kind, model: DemoModel, workers: Workers, capacity: float) -> dict[int, Bank]:
    """A bank for every side; films keep their pixels until there is a VAE."""
    example = workers.source.tokenize([""])
    pixels = kind.name == "film"
    return {
        side: Bank(
            side,
            samples(kind.room, side, capacity),
            example,
            model.device,
            latents=(model.tokens(side), model.channels),
            pixels=workers.source.shape(side) if pixels else None,
        )
        for side in workers.sides
    }


class Loop:
    """The steps of a run, and what is done between them: stages, lines in the log, exports."""

    def __init__(self, run: Run) -> None:
        self.owner, self.training, self.clock = run, run.training, run.clock
        self.batches = [stage.batch for stage in run.schedule.stages]
        self.stage = 0
        self.began = self.last_step = self.last_export = run.clock.now
        self.queue: list[torch.cuda.Event] = []
        self.plainest = False
        self._forget()

    def _forget(self) -> None:
        """Begins a new line of the log."""
        self.losses: dict[str, list[torch.Tensor]] = {"main": [], "small": []}
        self.trained_on, self.last_said = 0, self.clock.now

    @property
    def end(self) -> float:
        """When training has to end so that there is time to export and to judge all prompts."""
        run = self.owner
        expected = run.evaluation.expected(run.main_side, run.args.final_steps)
        sampling = LONGEST_END if expected is None else min(LONGEST_END, 1.3 * expected)
        reserve = FIRST_RESERVE if expected is None else END_SECONDS + sampling
        return self.clock.seconds - min(reserve, 0.4 * self.clock.seconds)

    def run(self) -> None:
        run = self.owner
        while self.training.step < run.args.max_steps:
            now = self.clock.now
            fraction = (now - self.began) / max(1.0, self.end - self.began)
            if fraction >= 1:
                break
            self._enter_stage(fraction)
            seconds, self.last_step = now - self.last_step, now
            self._step(fraction, seconds, now - self.began)
            if now - self.last_said > SAY_EVERY:
                self._say(fraction)
            if now - self.last_export > run.args.export_every:
                self._export()

    def _enter_stage(self, fraction: float) -> None:
        """Goes on to the next stage when it is due and has samples."""
        run = self.owner
        if run.schedule.stage_at(fraction) > self.stage:
            side, batch = run.schedule.stages[self.stage + 1].side, self.batches[self.stage + 1]
            bank = run.banks[side]
            if bank.visible >= min(batch, bank.capacity):
                self.stage += 1
                self.clock.say(f"stage {side} px x {batch} at {fraction:.2f} of training")
                self._forget()

    def _step(self, fraction: float, seconds: float, elapsed: float) -> None:
        side, batch = self.owner.schedule.stages[self.stage].side, self.batches[self.stage]
        try:
            loss, small = self.training.train_step(side, batch, fraction, seconds, elapsed)
        except torch.cuda.OutOfMemoryError:
            self._halve(side, batch)
            return
        except RuntimeError:
            self._go_plainest()
            return
        self.losses["main"].append(loss)
        if small is not None:
            self.losses["small"].append(small)
        self.trained_on += batch
        if self.owner.device.type == "cuda":
            event = torch.cuda.Event()
            event.record()
            self.queue.append(event)
            if len(self.queue) > QUEUED_STEPS:
                self.queue.pop(0).synchronize()

    def _halve(self, side: int, batch: int) -> None:
        """Half the batch after memory did not suffice, and blocks that are not compiled for one."""
        if batch < 4:
            raise
        self.batches[self.stage] = batch // 2
        self.training.compiler.give_up(side)
        self.clock.say(f"OUT OF MEMORY at {side} px x {batch}: half the batch, not compiled")
        torch.cuda.empty_cache()

    def _go_plainest(self) -> None:
        """Once more without compiled blocks and with another attention after a step failed."""
        self.clock.say("A STEP FAILED:", traceback.format_exc()[-1200:])
        if self.plainest:
            raise
        self.plainest = True
        use_attention(self.owner.model, self.owner.attention[-1])
        for side in self.owner.banks:
            self.training.compiler.give_up(side)

    def _say(self, fraction: float) -> None:
        run, side = self.owner, self.owner.schedule.stages[self.stage].side
        means = {k: round(torch.stack(v).mean().item(), 4) for k, v in self.losses.items() if v}
        self.training.keep_or_restore(all(math.isfinite(v) for v in means.values()))
        rate = self.trained_on / max(1e-6, self.clock.now - self.last_said)
        there = {side: bank.encoded for side, bank in run.banks.items()}
        step = self.training.step
        run.results.report["losses"].append([step, round(self.clock.now, 1), side, means])
        self.clock.say(
            f"step {step} {side} px, {fraction:.3f}, loss {means}, {rate:.0f} samples/s,"
            f" banks {there}"
        )
        run.evaluation.collect()
        self._forget()

    def _export(self) -> None:
        run, args = self.owner, self.owner.args
        run.export()
        if self.clock.now < self.end - 8:
            side = run.schedule.stages[self.stage].side
            try:
                run.evaluation.run(side, args.judged, args.judged_steps, args.guidance)
            except RuntimeError:
                self.clock.say("SAMPLING FAILED:", traceback.format_exc()[-800:])
        self.last_export = self.last_step = self.clock.now
        self._forget()


def guarded(crew: Crew, clock: Clock, work: Callable[[], None]) -> None:
    """Does the work of a process and ends it with all that it started; says why if it fails."""
    try:
        work()
    except SystemExit as reason:
        clock.say("ENDS:", reason)
        crew.leave(1)
    except BaseException:
        clock.say("ENDS:", traceback.format_exc()[-3000:])
        crew.leave(1)
    crew.leave(0)
