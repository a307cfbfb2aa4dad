"""Seconds of a film's steps with a model of published size, and what they come to over a whole film."""

import json
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from follow import Followed, follow, medians
from programs import ROOT, Programs, run, show
from random_models import (
    HUNYUAN_VIDEO,
    WAN_14B,
    HunyuanVideoDecoder,
    JointGeometry,
    Model,
    WanDecoder,
    WanGeometry,
    hunyuan_video,
    make,
    wan,
    write_tensors,
)

# Longer than the text that the models take, of which they shall have all.
PROMPT = "a small pink heart at the top right on a marble white background, and stars around it. " * 24


@dataclass(frozen=True)
class Size:
    """Of a film."""

    width: int
    height: int
    frames: int

    def options(self) -> list[str]:
        return [f"--width={self.width}", f"--height={self.height}", f"--frames={self.frames}"]


@dataclass(frozen=True)
class Film:
    name: str
    model: Model
    small: Model  # of the same family, to ask for its schedule
    profile: str
    size: Size
    options: tuple[str, ...]
    layers: int
    heads: int
    text_tokens: int  # beside the film's in its attention
    calls: int = 1  # of the model in a step

    def joint_tokens(self) -> int:
        """Of one layer's attention: a token is 16 x 16 pixels of four frames."""
        size = self.size
        return ((size.frames - 1) // 4 + 1) * (size.height // 16) * (size.width // 16) + self.text_tokens


SMALL_DECODER = WanDecoder(base=8, layers=1)
SMALL_HUNYUAN_VIDEO = hunyuan_video(JointGeometry(1, 1, heads=1, head_dim=64, refiner_blocks=1))
SMALL_WAN = wan(WanGeometry(blocks=1, heads=1, head_dim=64, mlp=128), SMALL_DECODER)


def films() -> list[Film]:
    """The published models at 720p."""
    return [
        Film(
            name="HunyuanVideo, 1280x720, 129 frames",
            model=hunyuan_video(HUNYUAN_VIDEO),
            small=SMALL_HUNYUAN_VIDEO,
            profile="hunyuan-video",
            size=Size(1280, 720, 129),
            options=("--max-sequence-length=256",),
            layers=HUNYUAN_VIDEO.double_blocks + HUNYUAN_VIDEO.single_blocks,
            heads=HUNYUAN_VIDEO.heads,
            text_tokens=256,
        ),
        Film(
            name="Wan 2.1 14B, 1280x720, 81 frames",
            model=wan(WAN_14B, SMALL_DECODER),
            small=SMALL_WAN,
            profile="wan-2.1",
            size=Size(1280, 720, 81),
            options=("--max-sequence-length=512", "--true-cfg-scale=5"),
            layers=WAN_14B.blocks,
            heads=WAN_14B.heads,
            text_tokens=0,
            calls=2,
        ),
    ]


STEPS = 50  # of the films that the profiles are written for
# Of these the first two are full, as in the whole schedule (the first is a dense one that keeps what choosing
# needs, the second chooses the columns), and the last is skipped.
MEASURED_STEPS = 5
MEASURED = ["--steps", MEASURED_STEPS, "--set", f"step_caching.skip_step_schedule=[{MEASURED_STEPS - 1}]"]
DENSE_STEPS = 2  # the first of which chooses algorithms
NO_CACHING = ["--set", "step_caching.is_enabled=false"]


def schedule_of(programs: Programs, film: Film, log: Path, *options) -> Counter | None:
    """How often each kind of step is in the profile's whole schedule, as the program reports it of a picture."""
    with tempfile.TemporaryDirectory(prefix="tamias-schedule-") as name:
        folder = Path(name)
        (folder / "model").mkdir()
        make(folder / "model", film.small)
        report = folder / "report.json"
        command = [programs.tamias, "generate", "--model", folder / "model", "--prompt", "a star", "--quiet"]
        command += [*Size(64, 64, 1).options(), "--max-sequence-length=16", "--true-cfg-scale=1"]
        command += ["--steps", STEPS, "--sparsity", film.profile, *options]
        command += ["--output", folder / "picture.png", "--report", report]
        if run([*map(str, command)], log, programs.environment) != 0:
            return None
        return Counter(step["kind"] for step in json.loads(report.read_text())["steps"])


def projected(times: dict[str, float], first: float, schedule: Counter) -> float:
    """Seconds of a whole film; the first of its full steps takes as long as the first that was measured."""
    return first + sum(times[kind] * (count - (kind == "full")) for kind, count in schedule.items())


class Plans:
    """What `tamias inspect` plans, asked while something else runs."""

    def __init__(self, programs: Programs, options: list, log: Path) -> None:
        self.file = log.open("a")
        command = [programs.tamias, "inspect", *options, "--json"]
        show(command)
        self.process = subprocess.Popen(
            [*map(str, command)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=self.file,
            env=programs.environment,
            text=True,
        )

    def get(self) -> dict:
        """Tokens, bytes at the peak (of the GPU's memory, else the host's) and what is done so that it fits."""
        text = self.process.communicate()[0]
        self.file.close()
        if self.process.returncode != 0:
            return {}
        plans = json.loads(text)
        found = {"tokens": plans["image_tokens"], "text_tokens": plans["text_tokens"]}
        for kind in ("dense", "accelerated"):
            plan = plans[f"memory_{kind}"]
            found[f"planned_memory_{kind}"] = plan["device_bytes"] or plan["peak_bytes"]
            found[f"measures_{kind}"] = plan.get("device_measures", [])
        return found


def cut_or_broken(name: str, what: str, followed: Followed, log: Path) -> dict:
    """The fields of an entry that say why a run is not whole; none where it is."""
    if followed.is_complete:
        return {}
    if followed.is_cut:
        return {"cut": f"{name}: {what}: cut after {len(followed.seconds)} steps, there was no more time"}
    return {"error_message": f"{what} ended early: see {log}"}


def measure(
    programs: Programs,
    film: Film,
    folder: Path,
    log: Path,
    device: str = "cuda",
    read_memory: Callable[[], int | None] = lambda: None,
) -> dict:
    """Seconds of steps by kind with the film's model in `folder`, accelerated and dense, and what follows."""
    entry = {"name": film.name, "profile": film.profile, "steps": STEPS, "calls": film.calls}
    entry["layers"] = film.layers
    model = ["--model", folder, "--device", device, *film.size.options(), *film.options]
    plans = Plans(programs, [*model, "--sparsity", film.profile], log)

    def steps(sparsity: str, *options) -> Followed:
        command = [programs.tamias, "generate", *model, "--prompt", PROMPT, "--sparsity", sparsity, *options]
        command += ["--output", folder.with_suffix(".mp4")]  # that is never written
        return follow(command, "denoise", log, programs.environment, programs.seconds_left(), read_memory)

    sparse = steps(film.profile, *MEASURED)
    entry |= {f"{kind}_step": seconds for kind, seconds in medians(sparse, first=1).items()}
    if sparse.seconds:
        entry |= {"first_step": sparse.seconds[0], "seconds_encode": sparse.seconds_before}
    entry["peak_memory_accelerated"] = sparse.peak_gpu_memory
    entry |= cut_or_broken(film.name, f"sparsity {film.profile}", sparse, log)
    dense = Followed()
    if not {"cut", "error_message"} & entry.keys():
        dense = steps("off", "--steps", DENSE_STEPS)
        # Where there was no time for a second one, the first counts, and the report says so.
        entry["dense_step_is_first"] = len(dense.seconds) < DENSE_STEPS
        entry |= {"dense_step": seconds for seconds in (medians(dense, first=1) or medians(dense)).values()}
        entry["peak_memory_dense"] = dense.peak_gpu_memory
        entry |= cut_or_broken(film.name, "sparsity off", dense, log)
    entry |= plans.get()
    if "planned_memory_dense" not in entry:
        entry["error_message"] = f"tamias inspect ended early: see {log}"
    schedules = {
        "sparse": schedule_of(programs, film, log, *NO_CACHING),
        "cached": schedule_of(programs, film, log),
    }
    if None in schedules.values():
        entry["error_message"] = f"the picture that tells the schedule failed: see {log}"
    return entry | projections(entry, schedules)


def projections(entry: dict, schedules: dict[str, Counter | None]) -> dict:
    """What the measured steps come to over a whole film, where all that it takes was measured."""
    found = {}
    times = {kind: entry[f"{kind}_step"] for kind in ("full", "sparse", "skip") if f"{kind}_step" in entry}
    if "dense_step" in entry:
        found["projected_dense"] = STEPS * entry["dense_step"]
    for name, schedule in schedules.items():
        if schedule is None or not schedule.keys() <= times.keys():
            continue
        found[f"schedule_{name}"] = dict(schedule)
        found[f"projected_{name}"] = projected(times, entry["first_step"], schedule)
        if "projected_dense" in found:
            found[f"speedup_{name}"] = found["projected_dense"] / found[f"projected_{name}"]
    return found


@dataclass(frozen=True)
class Decoder:
    name: str
    model: Model
    size: Size
    channels: int = 16  # of the latents
    patch: int = 2  # latent pixels along a side of a token
    scale: int = 8  # pixels of a latent pixel
    frames: int = 4  # of a latent frame

    def latents(self) -> list[int]:
        """Packed: [films, tokens, channels of a token]."""
        side = self.patch * self.scale
        times = (self.size.frames - 1) // self.frames + 1
        return [
            1,
            times * (self.size.height // side) * (self.size.width // side),
            self.channels * self.patch**2,
        ]


def decoders() -> list[Decoder]:
    """Those of the published models, behind transformers of one block."""
    size = Size(1280, 720, 17)
    hunyuan = hunyuan_video(
        JointGeometry(1, 1, heads=1, head_dim=64, refiner_blocks=1), HunyuanVideoDecoder()
    )
    wide = wan(WanGeometry(blocks=1, heads=1, head_dim=64, mlp=128), WanDecoder())
    return [
        Decoder("HunyuanVideo's decoder, 1280x720, 17 frames", hunyuan, size),
        Decoder("Wan 2.1's decoder, 1280x720, 17 frames", wide, size),
    ]


def decode(
    programs: Programs,
    decoder: Decoder,
    log: Path,
    device: str = "cuda",
    read_memory: Callable[[], int | None] = lambda: None,
) -> dict:
    """Seconds of decoding random latents."""
    entry = {"name": decoder.name}
    with tempfile.TemporaryDirectory(prefix="tamias-decoder-") as name:
        folder = Path(name)
        (folder / "model").mkdir()
        make(folder / "model", decoder.model)
        latents = folder / "latents.safetensors"
        write_tensors(latents, {"latents": decoder.latents()})
        command = [programs.tamias, "decode", "--model", folder / "model", "--latents", latents]
        command += [*decoder.size.options(), "--fps=24", "--device", device, "--output", folder / "film.mp4"]
        done = follow(command, "decode", log, programs.environment, programs.seconds_left(), read_memory)
    if done.is_complete:
        entry["seconds"] = sum(done.seconds)
    entry["peak_memory"] = done.peak_gpu_memory
    return entry | cut_or_broken(decoder.name, "decoding", done, log)
