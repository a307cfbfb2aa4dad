"""tools/gpu_check where there is no GPU, and its parts with small models on the CPU."""

import dataclasses
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "gpu"))

import films  # noqa: E402
import parts as gpu_parts  # noqa: E402
import random_models as models  # noqa: E402
import report as gpu_report  # noqa: E402
from follow import follow, medians  # noqa: E402
from programs import Programs  # noqa: E402

PROGRAM = Path(os.environ.get("TAMIAS_PROGRAM", ROOT / "build/release/tamias"))
PARTS = ["tests", "demo", "kernels", "video", "memory", "flux"]


def gpu_check(*arguments, interpreter=(sys.executable,)):
    command = [*interpreter, ROOT / "tools/gpu_check", *map(str, arguments)]
    # What shows no GPU where there is one; nothing else of this environment.
    environment = {"CUDA_VISIBLE_DEVICES": "", "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("part", PARTS)
def test_without_a_gpu_each_part_says_so_in_one_line(tmp_path, part):
    # -S: without the packages of this Python, too
    result = gpu_check("--only", part, "--out", tmp_path / "out", interpreter=(sys.executable, "-S"))
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(r"gpu_check: no GPU: .+\n", result.stderr)
    assert not (tmp_path / "out").exists()


def test_help_names_every_part_and_shows_examples():
    text = gpu_check("--help").stdout
    for part in PARTS:
        assert re.search(rf"^  {part} ", text, re.MULTILINE), part
    assert "--pack out/tamias-gpu.tar.gz" in text


def test_an_unknown_part_and_an_unknown_kind_of_archive_are_refused(tmp_path):
    result = gpu_check("--only", "everything")
    assert result.returncode == 2 and "invalid choice: 'everything'" in result.stderr
    result = gpu_check("--pack", tmp_path / "gpu.zip")
    assert result.returncode == 2 and "expected a name that ends in .tar.gz or .tar.xz" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_cudnn_is_measured_at_the_shapes_of_our_bench():
    source = (ROOT / "bench/cuda_attention_bench.cc").read_text()
    (shapes,) = re.findall(r"kShapes\[\]\[2\] = \{(.*?)\};", source)
    found = [(int(heads), int(tokens)) for heads, tokens in re.findall(r"\{(\d+), (\d+)\}", shapes)]
    assert gpu_parts.ATTENTION_SHAPES == found


def test_without_pytorch_or_its_gpu_a_note_says_so(tmp_path, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "failed" in gpu_parts.cudnn_attention([(1, 64)], log)["notes"][0]
    assert "CUDA" in log.read_text() or "NVIDIA" in log.read_text()
    monkeypatch.setattr(gpu_parts.importlib.util, "find_spec", lambda _: None)
    assert "no torch" in gpu_parts.cudnn_attention([(1, 64)], log)["notes"][0]


def test_seconds_are_a_number_above_0():
    for text in ("0", "-1", "nan", "inf", "soon"):
        result = gpu_check("--seconds", text)
        assert result.returncode == 2 and f"expected a number above 0, found '{text}'" in result.stderr


def header_of(path: Path) -> dict:
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    header.pop("__metadata__", None)
    return header


def test_the_random_flux_has_the_tensors_of_the_demo():
    folder = models.DEMO_FLUX / "transformer"
    config = json.loads((folder / "config.json").read_text())
    geometry = models.JointGeometry(
        config["num_layers"],
        config["num_single_layers"],
        config["num_attention_heads"],
        config["attention_head_dim"],
    )
    expected = {name: entry["shape"] for name, entry in header_of(folder / models.WEIGHTS).items()}
    found = models.flux_transformer(geometry).tensors
    guidance = {name for name in found if "guidance" in name}  # the demo has none
    assert len(guidance) == 4
    assert {name: shape for name, shape in found.items() if name not in guidance} == expected


COMPONENTS = {
    "FluxTransformer2DModel": models.flux_transformer(models.FLUX_1_DEV),
    "HunyuanVideoTransformer3DModel": models.hunyuan_video_transformer(models.HUNYUAN_VIDEO),
    "WanTransformer3DModel": models.wan_transformer(models.WAN_14B),
    "AutoencoderKLHunyuanVideo": models.hunyuan_video_vae(models.HunyuanVideoDecoder()),
    "AutoencoderKLWan": models.wan_vae(models.WanDecoder()),
}
# What the small text encoders and the demo's latents change of the published configurations.
ADAPTED = {
    "text_embed_dim",
    "pooled_projection_dim",
    "text_dim",
    "joint_attention_dim",
    "in_channels",
    "out_channels",
}
ADAPTED |= {"latents_mean", "latents_std", "scaling_factor"}


@pytest.mark.parametrize("name", COMPONENTS)
def test_random_components_are_those_of_diffusers_at_the_published_size(name):
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    component, built = COMPONENTS[name], getattr(diffusers, name)
    known = set(inspect.signature(built.__init__).parameters)
    with torch.device("meta"):
        model = built(**{key: value for key, value in component.config.items() if key in known})
        published = built(guidance_embeds=True) if "Flux" in name else built()
    expected = {
        key: list(tensor.shape)
        for key, tensor in model.state_dict().items()
        if "Autoencoder" not in name or key.startswith(("decoder.", "post_quant_conv."))
    }
    assert component.tensors == expected
    for key in known & component.config.keys() - ADAPTED:
        value, expected_value = model.config[key], published.config[key]
        assert value == expected_value or list(value) == list(expected_value), key


@pytest.mark.parametrize(
    "model, parameters",
    [
        (models.flux(models.FLUX_1_DEV), 11.9e9),
        (models.hunyuan_video(models.HUNYUAN_VIDEO), 12.8e9),
        (models.wan(models.WAN_14B, films.SMALL_DECODER), 14.3e9),
    ],
)
def test_the_published_sizes(model, parameters):
    assert model.bytes() == pytest.approx(2 * parameters, rel=0.01)


def test_tensors_lie_where_the_header_says(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "BLOCK_NUMBERS", 101)  # many blocks, the last one cut
    path = tmp_path / "random.safetensors"
    models.write_tensors(path, {"a.weight": [50, 7], "attn.norm_q.weight": [8], "b.bias": [333]})
    header = header_of(path)
    assert header["attn.norm_q.weight"] == {"dtype": "BF16", "shape": [8], "data_offsets": [700, 716]}
    data = path.read_bytes()[-2 * (350 + 8 + 333) :]
    numbers = [int.from_bytes(data[i : i + 2], "little") for i in range(0, len(data), 2)]
    assert numbers[350:358] == [0x3F80] * 8
    others = numbers[:350] + numbers[358:]
    assert {number >> 7 & 0xFF for number in others} == {127 - 6}
    assert others[:101] == others[101:202] and len(set(others)) > 60


def test_random_numbers_are_signed_and_of_one_size():
    data = models.random_bf16(1000)
    bits = [int.from_bytes(data[i : i + 2], "little") for i in range(0, len(data), 2)]
    exponents = {bit >> 7 & 0xFF for bit in bits}
    assert exponents == {127 - 6}
    assert 300 < sum(bit >> 15 for bit in bits) < 700
    assert len({bit & 0x7F for bit in bits}) > 100


class Here(Programs):
    """The CPU's program in the place of those that a GPU needs."""

    def __init__(self):
        self.tamias = PROGRAM
        self.environment = os.environ | {"TAMIAS_CONFIGS": str(ROOT / "configs")}
        self.give(300)


@pytest.fixture
def log(tmp_path):
    (tmp_path / "log.txt").write_text("")
    return tmp_path / "log.txt"


SMALL = models.JointGeometry(double_blocks=1, single_blocks=1, heads=1, head_dim=64, refiner_blocks=1)
SMALL_FILMS = [
    dataclasses.replace(film, model=film.small, size=films.Size(128, 128, 9), options=options)
    for film, options in zip(films.films(), [("--max-sequence-length=32",), ("--true-cfg-scale=5",)])
]


def test_the_published_films_have_the_tokens_that_the_profiles_are_for():
    assert [film.joint_tokens() for film in films.films()] == [118_800 + 256, 75_600]
    assert [decoder.latents() for decoder in films.decoders()] == 2 * [[1, 18_000, 64]]


def test_small_films_are_measured_and_projected(tmp_path, log):
    found = gpu_parts.video(Here(), tmp_path, log, SMALL_FILMS, device="cpu")
    assert found["notes"] == [] and len(found["films"]) == 2, log.read_text()
    for entry, film in zip(found["films"], SMALL_FILMS):
        assert "error_message" not in entry, log.read_text()
        for key in (
            "dense_step",
            "first_step",
            "full_step",
            "sparse_step",
            "skip_step",
            "planned_memory_accelerated",
        ):
            assert entry[key] > 0
        assert not entry["dense_step_is_first"]
        assert entry["tokens"] == 3 * 8 * 8 == film.joint_tokens() - film.text_tokens
        assert entry["schedule_cached"]["skip"] == 25 and sum(entry["schedule_cached"].values()) == 50
        assert "skip" not in entry["schedule_sparse"] and sum(entry["schedule_sparse"].values()) == 50
        assert entry["projected_dense"] == pytest.approx(50 * entry["dense_step"])
        assert {"projected_sparse", "projected_cached", "speedup_sparse", "speedup_cached"} <= entry.keys()
    # As the profiles have it: HunyuanVideo's full steps are 0, 1, 10 and 40, Wan's every tenth and step 1.
    assert [entry["schedule_sparse"] for entry in found["films"]] == [
        {"full": 4, "sparse": 46},
        {"full": 6, "sparse": 44},
    ]
    text = gpu_report.markdown(REPORT | found)
    assert "projected: 50 steps, `hunyuan-video` without step caching (4 full, 46 sparse)" in text
    assert "| skipped step |" in text and gpu_report.failures(REPORT | found) == []
    assert list(tmp_path.glob("**/film*")) == []


def test_a_small_flux_in_little_memory_and_small_decoders(tmp_path, log, monkeypatch):
    monkeypatch.setattr(gpu_parts, "FLUX_SIZE", ["--width=64", "--height=64", "--max-sequence-length=16"])
    decoder = models.HunyuanVideoDecoder(channels=(8, 8, 16, 16), groups=8, layers=1)
    size = films.Size(64, 64, 5)
    small = [
        films.Decoder("HunyuanVideo's", models.hunyuan_video(SMALL, decoder), size),
        films.Decoder("Wan's", films.SMALL_WAN, size),
    ]
    found = gpu_parts.memory(Here(), tmp_path, log, SMALL, small, device="cpu")
    assert gpu_report.failures(REPORT | found) == [], log.read_text()
    assert [entry["name"].split(" of ")[0] for entry in found["steps"]] == 2 * ["12 steps in 16GiB"] + 2 * [
        "12 steps in all"
    ]
    assert all(entry["full_step"] > 0 for entry in found["steps"])
    assert [entry["seconds"] > 0 for entry in found["decoders"]] == [True, True]
    assert "| Wan's |" in gpu_report.markdown(REPORT | found)


def test_without_time_each_measurement_is_said_to_be_left_out(tmp_path, log):
    here = Here()
    here.give(0)
    found = gpu_parts.video(here, tmp_path, log, SMALL_FILMS, device="cpu")
    assert found["films"] == []
    assert found["notes"] == [f"{film.name}: not begun, there was no more time" for film in SMALL_FILMS]
    found = gpu_parts.memory(here, tmp_path, log, SMALL, device="cpu")
    assert len(found["notes"]) == 4 + 2 and all("no more time" in note for note in found["notes"])
    assert gpu_report.failures(REPORT | found) == []


def test_no_room_for_the_weights_is_one_line(tmp_path, log, monkeypatch):
    free = shutil.disk_usage("/")._replace(free=10**9)
    monkeypatch.setattr(gpu_parts.shutil, "disk_usage", lambda _: free)
    found = gpu_parts.video(Here(), tmp_path, log)
    assert re.fullmatch(r"video: \S+ has no 29 GB free: set TMPDIR", gpu_report.failures(REPORT | found)[0])


SPEAKS = """
import sys, time
print("tamias: note: short", file=sys.stderr)
for line in ("encode prompt 1/1", "denoise 0/3", "denoise 1/3 full", "denoise 2/3 sparse"):
    print(line, "0.1 s", file=sys.stderr, flush=True)
    time.sleep(0.05)
{end}
time.sleep(60)
"""


def test_a_program_is_followed_to_the_end_of_the_stage_and_then_ended(log):
    end = 'print("denoise 3/3 sparse 0.4 s", file=sys.stderr, flush=True)'
    done = follow(
        [sys.executable, "-c", SPEAKS.format(end=end)], "denoise", log, dict(os.environ), 50, lambda: 7
    )
    assert done.is_complete and not done.is_cut and done.peak_gpu_memory == 0
    assert done.kinds == ["full", "sparse", "sparse"] and all(seconds > 0 for seconds in done.seconds)
    assert medians(done, first=1) == {"sparse": pytest.approx(sum(done.seconds[1:]) / 2)}
    assert "note: short" in log.read_text()


def test_a_program_without_more_time_is_cut_and_its_steps_count(log):
    done = follow(
        [sys.executable, "-c", SPEAKS.format(end="")], "denoise", log, dict(os.environ), 3, lambda: None
    )
    assert done.is_cut and not done.is_complete and done.kinds == ["full", "sparse"]
    assert "cut after 2 steps" in films.cut_or_broken("Film", "dense", done, log)["cut"]


def test_a_first_dense_step_counts_where_there_was_no_time_for_a_second():
    entry = {"name": "Film", "profile": "p", "steps": 50, "dense_step": 8.0}
    rows = gpu_report.film(entry | {"dense_step_is_first": True})
    assert "| dense step (chooses algorithms, too) | 8.000 | 1.00x |" in rows
    assert "| dense step | 8.000 | 1.00x |" in gpu_report.film(entry | {"dense_step_is_first": False})


def test_a_program_that_fails_is_not_taken_for_a_cut_one(log):
    done = follow([sys.executable, "-c", "exit(3)"], "denoise", log, dict(os.environ), 50, lambda: None)
    assert not done.is_cut and "error_message" in films.cut_or_broken("Film", "dense", done, log)


def test_projections():
    entry = {"dense_step": 10.0, "first_step": 11.0, "full_step": 13.0, "sparse_step": 4.0, "skip_step": 0.5}
    schedules = {"sparse": {"full": 4, "sparse": 46}, "cached": {"full": 4, "sparse": 21, "skip": 25}}
    found = films.projections(entry, schedules)
    assert found["projected_dense"] == 500
    assert found["projected_sparse"] == 11 + 3 * 13 + 46 * 4
    assert found["projected_cached"] == 11 + 3 * 13 + 21 * 4 + 25 * 0.5
    assert found["speedup_cached"] == pytest.approx(500 / 146.5)
    del entry["skip_step"], entry["dense_step"]
    found = films.projections(entry, schedules | {"sparse": None})
    assert found == {}  # nothing that rests on what was not measured


REPORT = {
    "date": "2026-01-01",
    "commit": "abc",
    "nvcc": "13.0",
    "gpu": {"name": "GPU", "compute_capability": "90", "driver_cuda": "13.0", "driver": "580"},
    "seconds": {"tests": 3.2},
}


def test_the_report_counts_what_failed():
    report = REPORT | {
        "tests": [
            {"name": "A.b", "passed": True, "message": ""},
            {"name": "A.c", "passed": False, "message": "off by one"},
        ],
        "steps": [{"name": "flux, sparsity off", "error_message": "see log"}],
    }
    text = gpu_report.markdown(report)
    assert "Tests: 1 of 2 passed." in text
    assert "- **failed** A.c: off by one" in text and "flux, sparsity off: see log" in text
    assert len(gpu_report.failures(report)) == 2
