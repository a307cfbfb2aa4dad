"""The engine in Python: a checkpoint folder in diffusers' layout, generated from in one call or step by step."""

from __future__ import annotations

import json
import numbers
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tamias import _tamias
from tamias._tamias import Progress
from tamias.arrays import Array, readable
from tamias.media import psnr, read_image, ssim

__all__ = [
    "Comparison", "Generation", "Lora", "Pipeline", "Progress", "Result", "Step", "TuneResult", "TuneTrial", "Video",
]  # fmt: skip

# Called while it runs; returning False stops with CancelledError.
ProgressCallback = Callable[[Progress], Any]


@dataclass
class Video:
    """A film: frames [frames, height, width, 3] u8, and how many are shown a second."""

    frames: np.ndarray
    fps: float


@dataclass
class Result:
    """What a generation made. images: [height, width, 3] u8 each; latents: [tokens, channels] f32 each, packed as
    diffusers' output_type="latent" is. report: everything of the command line's report, as a dictionary."""

    images: list[np.ndarray]
    videos: list[Video]
    latents: list[np.ndarray]
    seconds_total: float
    seconds_encode: float
    seconds_denoise: float
    seconds_decode: float
    attention_sparsity: float
    mlp_sparsity: float
    report: dict[str, Any] = field(repr=False)

    @classmethod
    def _of(cls, made: dict[str, Any]) -> Result:
        report = json.loads(made.pop("report_json") or "{}")
        videos = [Video(frames, fps) for frames, fps in made.pop("videos")]
        return cls(videos=videos, report=report, **made)


@dataclass
class Comparison:
    """The same noise dense and accelerated. speedup: of the whole generation; psnr (dB) and ssim: means over all
    frames; latent_error: relative L2, mean over the pictures."""

    dense: Result
    accelerated: Result
    speedup: float
    denoising_speedup: float
    psnr: float
    ssim: float
    latent_error: float


@dataclass
class TuneTrial:
    """A setting that was run: its profile as YAML ("" of plain steps), denoising speed-up over dense, likeness to the
    dense results (psnr: of the worst), and whether that is enough."""

    name: str
    profile: str
    seconds: float
    speedup: float
    psnr: float
    psnr_mean: float
    ssim: float
    attention_sparsity: float
    mlp_sparsity: float
    is_alike: bool


@dataclass
class TuneResult:
    """trials in the order of their runs; fastest: of those that are alike; fewer_steps: plain dense steps in the time
    of the fastest."""

    trials: list[TuneTrial]
    fastest: TuneTrial
    fewer_steps: TuneTrial
    seconds_dense: float


@dataclass
class Step:
    """A denoising step that has run."""

    image: int  # picture or film, 0 to num_images - 1
    step: int  # 0 to num_steps - 1
    num_steps: int
    kind: str  # "full", "sparse" or "skip"
    seconds: float  # since the generation began


class _LastProgress:
    """Keeps what was reported last. An object of its own: a callback that held its generation would keep it alive."""

    def __init__(self) -> None:
        self.kind, self.seconds = "", 0.0

    def __call__(self, progress: Progress) -> None:
        if progress.stage == "denoise":
            self.kind, self.seconds = progress.step_kind, progress.seconds


class Generation:
    """A generation run step by step: an iterator over its steps, with the latents between them.

        generation = pipeline.start("a large red circle", steps=20)
        for step in generation:
            print(step.step, step.kind, generation.latents.std())
        picture = generation.result().images[0]

    Stop by leaving the loop; `decode()` then decodes what is there. Several may run in turn, or in threads of their own.
    """

    def __init__(self, pipeline: _tamias.Pipeline, options: _tamias.GenerateOptions) -> None:
        self._last = _LastProgress()
        self._lock = threading.Lock()
        self._generation = pipeline.start(options, self._last)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """A generation belongs to one thread at a time."""
        if not self._lock.acquire(blocking=False):
            raise _tamias.InvalidArgumentError("generation: expected one thread at a time, found two")
        try:
            yield
        finally:
            self._lock.release()

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        while not self._generation.is_done:
            step = self.step()
            if step is not None:
                return step
            self.decode()
        raise StopIteration

    def encode(self) -> None:
        """Turns prompts into embeddings; the first step does it otherwise."""
        with self._alone():
            self._generation.encode()

    def step(self) -> Step | None:
        """Runs the next step of the picture under way. None, and nothing done: it has no more, and decode() is next."""
        with self._alone():
            if not self._generation.step():
                return None
            step = self._generation.next_step - 1
            return Step(self.image, step, self.num_steps, self._last.kind, self._last.seconds)

    def decode(self) -> None:
        """Ends the picture under way as it is now; the next step begins the next one."""
        with self._alone():
            self._generation.decode()

    @property
    def is_done(self) -> bool:
        """All pictures have been decoded."""
        return self._generation.is_done

    @property
    def image(self) -> int:
        """The picture or film under way, from 0."""
        return self._generation.image

    @property
    def num_steps(self) -> int:
        """Steps of each picture."""
        return self._generation.num_steps

    @property
    def latents(self) -> np.ndarray:
        """The latents of the picture under way, [tokens, channels] f32, a copy; may be set, by values near them."""
        return self._generation.latents()

    @latents.setter
    def latents(self, latents: Array) -> None:
        self._generation.set_latents(readable("latents", latents))

    def result(self) -> Result:
        """What is there so far."""
        return Result._of(self._generation.result())


@dataclass(frozen=True)
class Lora:
    """A LoRA for Pipeline(loras=...): its weights become W + scale (alpha / r) B A.

    file: .safetensors as diffusers, PEFT or kohya's scripts write it. transformer: 1 for the second one of Wan 2.2.
    """

    file: str | os.PathLike[str]
    scale: float = 1.0
    transformer: int = 0


def _lora_parts(loras: Iterable[Lora | str | os.PathLike[str]]) -> list[tuple[str, float, int]]:
    if isinstance(loras, (str, os.PathLike, Lora, Mapping)) or not isinstance(loras, Iterable):
        raise TypeError(f"loras: expected a list of files or tamias.Lora, found {type(loras).__name__}")
    parts = []
    for lora in loras:
        if not isinstance(lora, (str, os.PathLike, Lora)):
            raise TypeError(f"loras: expected files or tamias.Lora, found {type(lora).__name__}")
        lora = lora if isinstance(lora, Lora) else Lora(lora)
        if not isinstance(lora.scale, numbers.Real) or not isinstance(lora.transformer, numbers.Integral):
            raise TypeError(f"loras: {lora}: expected numbers as scale and transformer")
        parts.append((os.fspath(lora.file), float(lora.scale), int(lora.transformer)))
    return parts


class Pipeline:
    """A model: FLUX.1, HunyuanVideo, Wan or Mochi from a checkpoint folder in diffusers' layout.

    Weights are memory-mapped. variant: of weights that a folder holds in several ("fp16"). loras: files of LoRAs, or
    Lora(file, scale), which are merged into the weights. Threads may share a pipeline. Options that are not given take
    the model's own defaults (tamias.json in its folder), else its family's.

        pipeline = tamias.Pipeline("models/demo-flux")
        result = pipeline.generate("a large red circle at the center on a grey background", seed=3)

    Options of all methods that generate:
        negative_prompt, true_cfg_scale: classifier-free guidance, two model calls a step above 1; true_cfg_scale_2: the
        scale of the second transformer of Wan 2.2; guidance_scale: the embedded guidance of distilled models;
        max_sequence_length: text tokens;
        width, height: pixels, multiples of info.size_multiple; num_frames, fps: of films; steps: denoising steps;
        seed: of the noise, the same as torch.Generator("cpu") in diffusers; num_images: from one stream of noise;
        image: what a film begins with, [height, width, 3] u8 or a path; initial_latents: what denoising begins with
        instead of noise; sparsity: "auto" (the model's profile), "off", a profile's name or a YAML file; overrides:
        {"attn.top_keys": 0.1}, keys of the profile to change; threads: 0 is one per usable CPU; device: "cpu", "cuda",
        "cuda:1" or several GPUs, "cuda:0,cuda:1", which share a step's call, or its two with true_cfg_scale above 1;
        dtype: "auto", "f32" or "bf16"; weight_dtype: "auto" or "fp8_e4m3", half the memory for the transformer's weights;
        max_memory_bytes: beyond which the state goes to a file; max_gpu_memory_bytes: what may be taken of each GPU's
        memory; decode: False stops at the latents.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        variant: str = "",
        loras: Iterable[Lora | str | os.PathLike[str]] = (),
    ) -> None:
        self._pipeline = _tamias.Pipeline(os.fspath(folder), variant, _lora_parts(loras))

    @property
    def info(self) -> _tamias.ModelInfo:
        """Family, scheduler, components with their sizes, defaults."""
        return self._pipeline.info

    def generate(
        self,
        prompt: str = "",
        *,
        progress: ProgressCallback | None = None,
        on_image: Callable[[int, np.ndarray], Any] | None = None,
        on_prediction: Callable[[int, float, np.ndarray], Any] | None = None,
        **options: Any,
    ) -> Result:
        """Generates pictures or films.

        progress(Progress) is called after each step; returning False raises CancelledError, and Ctrl-C works.
        on_image(index, pixels) takes each picture (film: frames) as it is done; on_prediction(step, sigma, values
        [tokens, channels]) what the model predicted on each step.
        """
        made = self._options(prompt, **options)
        self._warn(made)
        if on_image is not None:
            made.set_on_image(on_image)
        if on_prediction is not None:
            made.set_on_prediction(on_prediction, self._pipeline.num_image_tokens(made))
        return Result._of(self._pipeline.generate(made, progress))

    def start(self, prompt: str = "", **options: Any) -> Generation:
        """The same step by step. Checks options and memory, and runs nothing yet."""
        made = self._options(prompt, **options)
        self._warn(made)
        return Generation(self._pipeline, made)

    def _warn(self, options: _tamias.GenerateOptions) -> None:
        """Settings that have no effect or do not fit, as the command line's notes."""
        for text in self._pipeline.warnings(options):
            warnings.warn(text, stacklevel=3)

    def decode(
        self, latents: Array | Sequence[Array], *, progress: ProgressCallback | None = None, **options: Any
    ) -> Result:
        """Decodes latents [tokens, channels], one or several; their size is what the options say."""
        many = list(latents) if isinstance(latents, (list, tuple)) else [latents]
        arrays = [readable("latents", one) for one in many]
        return Result._of(self._pipeline.decode(arrays, self._options("", **options), progress))

    def compare(
        self, prompt: str = "", *, progress: ProgressCallback | None = None, sparsity: Any = "auto", **options: Any
    ) -> Comparison:
        """Generates from the same noise dense and accelerated, and measures how alike the results are."""
        dense = self.generate(prompt, progress=progress, sparsity="off", **options)
        accelerated = self.generate(prompt, progress=progress, sparsity=sparsity, **options)
        pairs = list(zip(_frames(dense), _frames(accelerated)))
        psnrs = [min(psnr(a, b), 99.0) for a, b in pairs]
        errors = [float(np.linalg.norm(b - a) / np.linalg.norm(a)) for a, b in zip(dense.latents, accelerated.latents)]
        return Comparison(
            dense=dense,
            accelerated=accelerated,
            speedup=dense.seconds_total / accelerated.seconds_total,
            denoising_speedup=dense.seconds_denoise / accelerated.seconds_denoise,
            psnr=float(np.mean(psnrs)),
            ssim=float(np.mean([ssim(a, b) for a, b in pairs])),
            latent_error=float(np.mean(errors)),
        )

    def tune(
        self,
        prompts: str | Sequence[str],
        *,
        min_psnr: float = 28,
        progress: ProgressCallback | None = None,
        on_trial: Callable[[TuneTrial], Any] | None = None,
        **options: Any,
    ) -> TuneResult:
        """Finds the fastest settings that keep min_psnr dB on the worst of the prompts, by running them: minutes to
        hours. Save `result.fastest.profile` as a .yml file to use it."""
        many = [prompts] if isinstance(prompts, str) else list(prompts)
        if not many:
            raise _tamias.InvalidArgumentError("prompts: expected at least one, found none")
        report = None if on_trial is None else lambda trial: on_trial(TuneTrial(**trial))
        found = _tamias.tune(self._pipeline, self._options(many[0], **options), many, min_psnr, progress, report)
        return TuneResult(
            trials=[TuneTrial(**trial) for trial in found["trials"]],
            fastest=TuneTrial(**found["fastest"]),
            fewer_steps=TuneTrial(**found["fewer_steps"]),
            seconds_dense=found["seconds_dense"],
        )

    def settings(self, **options: Any) -> _tamias.GenerationSettings:
        """The options as they are in force."""
        return self._pipeline.settings(self._options("", **options))

    def plan_memory(self, **options: Any) -> dict[str, Any]:
        """What a generation will hold at its peak, known before anything runs: peak_bytes, entries by name."""
        return self._pipeline.plan_memory(self._options("", **options))

    def sparsity_yaml(self, **options: Any) -> str:
        """The profile in force, "" when sparsity is off."""
        return self._pipeline.sparsity_yaml(self._options("", **options))

    def warnings(self, **options: Any) -> list[str]:
        """Settings that have no effect here, one sentence each."""
        return self._pipeline.warnings(self._options("", **options))

    def text(self, prompt: str = "", *, index: int = 0, **options: Any) -> dict[str, str]:
        """What a file of this generation's picture number `index` should carry: prompt, settings and version."""
        return self._pipeline.text(self._options(prompt, **options), index)

    def _options(self, prompt: str, **given: Any) -> _tamias.GenerateOptions:
        options = _tamias.GenerateOptions()
        if not isinstance(prompt, str):
            raise TypeError(f"prompt: expected a text, found {type(prompt)}")
        options.prompt = prompt
        for name, value in given.items():
            if value is None:
                continue
            if name == "image":
                pixels = read_image(value) if isinstance(value, (str, os.PathLike)) else np.asarray(value)
                options.set_image(readable("image", pixels))
            elif name == "initial_latents":
                many = value if isinstance(value, (list, tuple)) else [value]
                options.set_initial_latents([readable("initial_latents", one) for one in many])
            elif name == "overrides":
                options.overrides = [*options.overrides, *assignments(value)]
            elif hasattr(options, name) and not name.startswith(("_", "set_")):
                try:
                    setattr(options, name, os.fspath(value) if name == "sparsity" else value)
                except TypeError:
                    raise TypeError(f"{name}: cannot be {value!r}, of {type(value)}") from None
            else:
                raise TypeError(f"{name!r} is no option of a generation; tamias.Pipeline's documentation lists them")
        return options


def _frames(result: Result) -> list[np.ndarray]:
    return [*result.images, *(frame for video in result.videos for frame in video.frames)]


def assignments(overrides: dict[str, Any] | Sequence[str]) -> list[str]:
    """{"attn.top_keys": 0.1} as ["attn.top_keys=0.1"]."""
    if isinstance(overrides, str):
        raise TypeError(f"overrides: expected several assignments or a dictionary, found '{overrides}'")
    if not isinstance(overrides, dict):
        return list(overrides)
    return [f"{key}={_yaml(value)}" for key, value in overrides.items()]


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (set, list, tuple, range)):
        return "[" + ", ".join(str(one) for one in value) + "]"
    return str(value)
