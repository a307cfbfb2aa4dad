"""Trains the films' VAE, in a process of its own beside the start of the films' training.

From the folder's weights, on pieces of whole clips as `FilmVae` cuts them. The held-out clips
decide whether the result is better than what was there; if so, it is written into a folder that
both processes know, where the other one waits for it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from film_vae import FilmVae, decode_piece, encode_piece
from gpu.banks import Bank, Feeder, to_device
from gpu.clock import Clock
from gpu.evaluation import Evaluation
from gpu.optimizer import Optimizer
from gpu.sources import FILM_FRAMES, held_out_films
from gpu.workers import Workers, die_with_parent
from safetensors.torch import load_file, save_file
from weights import VAE_FILE

VAE_FILES = {"vae": VAE_FILE}
TRAINED, REPORT = "vae.safetensors", "report.json"
PATIENCE = 15.0  # seconds that the VAE is waited for after its time
SMALL_SIDE = 64
ROOM = 3072  # clips of each side
MUON_RATE, ADAM_RATE = 1e-3, 4e-4
FLAT, WARM_UP_STEPS = 0.25, 40
KL_WEIGHT = 3e-4
LEFT_NOISE = 0.1  # deviation, at most: what a transformer leaves
QUEUED_STEPS = 3
HALF_TOLERANCE = 0.02  # relative


class VaeTraining:
    """Encoder and decoder in training; steps compute in `dtype`."""

    def __init__(
        self, folder: Path, banks: Mapping[int, Bank], batch: int, seed: int,
        device: torch.device, dtype: torch.dtype,
    ) -> None:  # fmt: skip
        self.vae = FilmVae.from_folder(folder, device)
        self.batch, self.step = batch, 0
        self._banks, self._device, self._dtype = banks, device, dtype
        self._names, self._weights = list(self.vae.exact), list(self.vae.exact.values())
        self._low = [w.to(dtype).clone().requires_grad_() for w in self._weights]
        for w in self._weights:
            w.grad = torch.zeros_like(w)
        inner = ("conv1.", "conv2.", "samplers.")
        matrices = [
            w for n, w in self.vae.exact.items() if w.ndim == 5 and any(k in n for k in inner)
        ]
        known = {id(w) for w in matrices}
        others = [w for w in self._weights if id(w) not in known]
        self._optimizer = Optimizer(matrices, others, MUON_RATE, ADAM_RATE, (0.0, 0.0), (0.9, 0.99))
        self._good = [w.clone() for w in self._weights]
        self._rng = np.random.default_rng(seed)

    def train_step(self, fraction: float) -> torch.Tensor:
        """One step at a share of the time; returns the mean squared error (pixels in -1..1)."""
        for w in self._low:
            w.grad = None
        loss, square = self._loss()
        loss.backward()
        with torch.no_grad():
            torch._foreach_copy_([w.grad for w in self._weights], [w.grad for w in self._low])
        fall = min(1.0, max(0.0, (1 - fraction) / (1 - FLAT)))
        self._optimizer.step(min(1.0, (self.step + 1) / WARM_UP_STEPS) * fall)
        with torch.no_grad():
            torch._foreach_copy_(self._low, self._weights)
        self.step += 1
        return square

    def _loss(self) -> tuple[torch.Tensor, torch.Tensor]:
        w = dict(zip(self._names, self._low))
        x, spans, wanted, begin = self._pieces()
        codes = [encode_piece(w, x[:, a:b]).float() for a, b in spans]
        code = torch.cat([codes[piece][:, i : i + 1] for piece, i in wanted], 1)
        mean, logvar = code.chunk(2, -1)
        logvar = logvar.clamp(-30, 20)
        left = LEFT_NOISE * torch.rand((len(x), 1, 1, 1, 1), device=self._device)
        z = mean + torch.sqrt(logvar.exp() + left.square()) * torch.randn_like(mean)
        y = decode_piece(w, z.to(self._dtype)).float()
        if len(spans) > 1:  # in the middle of a clip: the first latent is only looked at
            y = y[:, 1:]
        x = x[:, begin : begin + y.shape[1]].float()
        error = y - x
        # Near the object counts more: the ground is learned soon.
        inside = (x - x[:, :, :1, :1]).abs().amax(-1) > 0.03
        weight = 1 + 6 * torch.nn.functional.max_pool2d(inside.float(), 7, 1, 3)[..., None]
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        square = error.square()
        loss = (weight * error.abs()).mean() + 2 * (weight * square).mean() + KL_WEIGHT * kl
        return loss, square.mean().detach()

    def _pieces(self) -> tuple[torch.Tensor, list[tuple[int, int]], list[tuple[int, int]], int]:
        """Clips [batch, frames, side, side, 3] in -1..1, and which piece of them is trained on.

        That is: spans of frames to encode, (span, latent) to decode, and the frame that the decoded
        ones begin with.
        """
        side = max(self._banks)
        batch = self.batch
        if self.step % 4 == 3 and SMALL_SIDE in self._banks:
            side, batch = SMALL_SIDE, batch * 3
        bank = self._banks[side]
        places = to_device(bank.choose(batch), self._device)
        x = bank.pixels[places].to(self._dtype) / 127.5 - 1
        kind = self._rng.random()
        if kind < 0.45:  # the beginning of a clip, at any time
            first = int(self._rng.integers(FILM_FRAMES - 16)) if kind < 0.25 else 0
            return x, [(first, first + 17)], [(0, i) for i in range(5)], first
        if kind < 0.8:  # the middle: decoding begins with a latent of four frames
            first = int(self._rng.integers(FILM_FRAMES - 28))
            spans = [(first, first + 17), (first + 12, first + 29)]
            return x, spans, [(0, 3), (0, 4), (1, 2), (1, 3), (1, 4)], first + 13
        return x, [(12, 29), (24, 33)], [(0, 3), (0, 4), (1, 2)], 25

    @torch.no_grad()
    def keep_or_restore(self, finite: bool) -> bool:
        """Keeps the weights while all is well; goes back to them at a third of the rates if not."""
        finite = finite and all(w.isfinite().all() for w in self._weights)
        if finite:
            self._good = [w.clone() for w in self._weights]
        else:
            torch._foreach_copy_(self._weights, self._good)
            torch._foreach_copy_(self._low, self._good)
            self._optimizer.restart(1 / 3)
        return finite

    @torch.no_grad()
    def normalise(self, count: int = 256) -> None:
        """Mean 0 and deviation 1 for every latent channel over clips, in the VAE's own weights.

        Channels that hardly vary are not blown up beyond a fifth of the common deviation.
        """
        bank = self._banks[max(self._banks)]
        clips = bank.pixels[: min(bank.arrived, count)].split(8)
        tokens = torch.cat([self.vae.encode(c).flatten(0, 1) for c in clips])
        mean, w = tokens.mean(0), self.vae.exact
        deviation = tokens.std(0).clamp_min(0.2 * tokens.std())
        first, bias, then = (
            w["quant_conv.weight"],
            w["quant_conv.bias"],
            w["post_quant_conv.weight"],
        )
        channels = len(mean)
        first[:channels] /= deviation.view(-1, 1, 1, 1, 1)
        bias[:channels] = (bias[:channels] - mean) / deviation
        bias[channels:] -= 2 * deviation.log()
        w["post_quant_conv.bias"] += then[:, :, 0, 0, 0] @ mean
        then *= deviation.view(1, -1, 1, 1, 1)


@torch.no_grad()
def decibels(vae: FilmVae, films: np.ndarray) -> tuple[float, float, np.ndarray]:
    """PSNR of reconstructions, mean and worst of films, and the reconstructions."""
    made, errors = [], []
    for part in torch.from_numpy(films).split(8):
        x = part.to(vae.device)
        y = vae.decode(vae.encode(x), (x.shape[1] - 1) // 4 + 1)
        made.append(y.cpu().numpy())
        errors.append(((x.float() - y.float()) / 255).square().mean((1, 2, 3, 4)))
    each = -10 * torch.log10(torch.cat(errors).clamp_min(1e-12))
    return each.mean().item(), each.min().item(), np.concatenate(made)


# ---- the process that trains it


def run_vae_training(
    args: argparse.Namespace, prompts: Sequence[str], workers: Workers, clock: Clock,
    device: torch.device,
) -> None:  # fmt: skip
    """Trains until --vae-until and writes the VAE, if it is better, into --vae-folder."""
    threading.Thread(target=_leave_in_time, args=(workers, clock), daemon=True).start()
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    example = workers.source.tokenize([""])
    banks = {
        side: Bank(side, max(8, int(args.capacity * ROOM)), example, device,
                   pixels=workers.source.shape(side))
        for side in workers.sides
    }  # fmt: skip
    feeder = Feeder(workers, banks, device, dict.fromkeys(banks, ROOM), {}, 1, clock)
    feeder.start()
    training = VaeTraining(args.model, banks, args.vae_batch, args.seed, device, dtype)
    films = held_out_films(prompts[: args.judged], max(banks))
    before = decibels(training.vae, films)[:2]
    clock.say(
        f"held-out clips through the VAE as it was: {before[0]:.2f} dB, worst {before[1]:.2f}"
    )
    while min(bank.arrived for bank in banks.values()) < min(64, banks[max(banks)].capacity):
        if feeder.failed or clock.left < 0:
            raise SystemExit("no clips come")
        time.sleep(0.02)
    clock.say("training begins; there are", {s: b.arrived for s, b in banks.items()})
    _train(training, clock, args.max_steps)
    feeder.halt()
    training.normalise()
    vae = FilmVae({k: v.half() for k, v in training.vae.exact.items()}, device)
    after = decibels(vae, films)[:2]
    clock.say(
        f"after {training.step} steps held-out clips: {after[0]:.2f} dB, worst {after[1]:.2f}"
    )
    if after[0] < before[0] + args.vae_least_gain:
        raise SystemExit(f"gains less than {args.vae_least_gain} dB")
    half = {k: v.detach().half().cpu().contiguous() for k, v in vae.exact.items()}
    report = {"before": before, "after": after, "steps": training.step}
    (args.vae_folder / REPORT).write_text(json.dumps(report), encoding="utf-8")
    save_file(half, str(args.vae_folder / "partial"))
    os.replace(args.vae_folder / "partial", args.vae_folder / TRAINED)


def _train(training: VaeTraining, clock: Clock, max_steps: int) -> None:
    """Steps until the clock's seconds are over, less what measuring and writing take."""
    end = clock.seconds - min(2.0, 0.1 * clock.left)
    began = said = clock.now
    squares: list[torch.Tensor] = []
    queue: list[torch.cuda.Event] = []
    restored = 0
    while clock.now < end and training.step < max_steps:
        fraction = (clock.now - began) / (end - began)
        try:
            squares.append(training.train_step(fraction))
        except torch.cuda.OutOfMemoryError:
            if training.batch < 2:
                raise
            training.batch //= 2
            clock.say(f"OUT OF MEMORY: batches of {training.batch}")
            torch.cuda.empty_cache()
            continue
        if squares[-1].is_cuda:
            queue.append(torch.cuda.Event())
            queue[-1].record()
            if len(queue) > QUEUED_STEPS:
                queue.pop(0).synchronize()
        if clock.now - said > 5:
            mean = torch.stack(squares).mean().item()
            if training.keep_or_restore(math.isfinite(mean)):
                rate = len(squares) / (clock.now - said)
                level = 10 * math.log10(4 / mean)
                clock.say(
                    f"step {training.step}, {fraction:.3f}, {level:.2f} dB, {rate:.1f} steps/s"
                )
            else:
                restored += 1
                clock.say("LOSS IS NOT FINITE: back to weights before, at a third of the rates")
                if restored > 4:
                    raise SystemExit("the loss is not finite")
            squares, said = [], clock.now


def _leave_in_time(workers: Workers, clock: Clock) -> None:
    die_with_parent()
    while clock.left > -PATIENCE:
        time.sleep(0.2)
    clock.say("late: leaving")
    workers.stop()
    os._exit(3)


# ---- the process that waits for it


def wait_for_vae(
    args: argparse.Namespace, process: subprocess.Popen | None, clock: Clock, device: torch.device
) -> tuple[FilmVae, dict | None]:
    """The trained VAE and its report, or the folder's own when there is no better one in time."""
    path = args.vae_folder / TRAINED
    if process is not None:
        while not path.exists() and process.poll() is None:
            if clock.now > args.vae_until + PATIENCE:
                process.kill()
                break
            time.sleep(0.05)
    if path.exists():
        report = json.loads((args.vae_folder / REPORT).read_text(encoding="utf-8"))
        return FilmVae(load_file(str(path)), device), report
    clock.say("goes on with the folder's own VAE")
    return FilmVae.from_folder(args.model, device), None


def choose_encoding(vae: FilmVae, films: np.ndarray, clock: Clock) -> torch.dtype:
    """fp16 where a GPU gives with it what fp32 gives."""
    if vae.device.type != "cuda":
        return torch.float32
    clips = torch.from_numpy(films[:4]).to(vae.device)
    want, got = vae.encode(clips), vae.encode(clips, torch.float16)
    torch.cuda.synchronize()  # the cast weights are read on another stream
    apart = ((got - want).norm() / want.norm()).item()
    clock.say(f"encoding in fp16 differs by {apart:.4f}")
    return torch.float16 if apart < HALF_TOLERANCE else torch.float32


def judge_vae(vae: FilmVae, films: np.ndarray, evaluation: Evaluation, clock: Clock) -> None:
    """What the detector says of held-out clips after the VAE alone: the best that can be had."""
    mean, worst, made = decibels(vae, films)
    clock.say(f"held-out clips through the VAE: {mean:.2f} dB, worst {worst:.2f}")
    evaluation.judge({"step": 0, "side": "VAE only", "psnr": round(mean, 2)}, made)
