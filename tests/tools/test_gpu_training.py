"""What training on a GPU does without PyTorch: clock, workers, shared memory, exports, packing."""

import argparse
import hashlib
import itertools
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import assemble
import numpy as np
import pack_training
import pytest
from clips import caption as clip_caption
from clips import frame_times, paint, render, sample_clip
from gpu.clock import Clock, Schedule, SmallBatches, Stage, average_share
from gpu.judges import Judges, make_sheet
from gpu.kinds import KINDS, ROOT, samples
from gpu.results import PIECE_BYTES, Results
from gpu.sources import FILM_FRAMES, FilmSource, PictureSource, held_out_films, read_prompts
from gpu.workers import Ring, Workers
from scenes import caption, parse_caption, render as render_scene

KIND_NAMES = sorted(KINDS)


def letters(texts: list[str]) -> tuple[np.ndarray, ...]:
    """A tokenizer of sorts: the length of each text, and its first letters."""
    ids = np.array([list(text[:8].ljust(8).encode()) for text in texts], np.int16)
    return ids, np.array([len(text) for text in texts], np.int16)


def schedule_of(kind: str) -> Schedule:
    stages = tuple(Stage.parse(text) for text in KINDS[kind].stages)
    return Schedule(stages, SmallBatches.parse(KINDS[kind].small), flat=0.4)


# ---- the clock


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_stages_follow_each_other_by_the_share_of_time_and_fill_it(kind):
    schedule = schedule_of(kind)
    assert sum(stage.share for stage in schedule.stages) == pytest.approx(1)
    over = 0.0
    for number, stage in enumerate(schedule.stages):
        assert schedule.stage_at(over + 1e-6) == number
        over += stage.share
        assert schedule.stage_at(over - 1e-6) == number
    assert schedule.stage_at(1.5) == len(schedule.stages) - 1


def test_the_rate_warms_up_by_steps_and_falls_to_zero_by_the_clock():
    schedule = schedule_of("picture")
    assert schedule.rate(0, 0.0) == pytest.approx(0.01)
    assert schedule.rate(99, 0.0) == schedule.rate(5000, 0.399) == 1
    assert schedule.rate(5000, 0.7) == pytest.approx(0.5)
    assert schedule.rate(5000, 1.0) == schedule.rate(5000, 1.2) == 0


def test_small_batches_come_beside_larger_ones_until_their_time_is_over():
    schedule = schedule_of("picture")
    small = schedule.small
    assert not schedule.takes_small(small.side, 0, 0.5)
    taken = [schedule.takes_small(512, step, small.until - 0.01) for step in range(8)]
    assert taken == [step % small.every == 0 for step in range(8)]
    assert not schedule.takes_small(512, 0, small.until)


def test_batches_are_listed_as_they_are_needed_and_once():
    stages = (Stage(64, 8, 0.5), Stage(128, 4, 0.5))
    assert list(Schedule(stages, SmallBatches(32, 16, 2, 1.0, 0.5), 0.4).batches.items()) == [
        (64, 8), (128, 4), (32, 16),
    ]  # fmt: skip
    assert Schedule(stages, SmallBatches(64, 8, 2, 1.0, 0.5), 0.4).batches == {64: 8, 128: 4}


@pytest.mark.parametrize("text", ["", "128", "128:64", "128:64:0.5:1", "128:x:0.5", "1.5:64:0.5"])
def test_what_is_no_stage_is_refused_with_its_form(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not SIDE:BATCH:SHARE"):
        Stage.parse(text)


def test_the_average_forgets_by_time_whatever_the_length_of_steps():
    def weight_left(seconds: float) -> float:
        left, elapsed = 1.0, 100.0
        for step in itertools.count(1000):
            if elapsed >= 110:
                return left
            left *= 1 - average_share(seconds, elapsed, step, 0.035)
            elapsed += seconds

    assert weight_left(0.1) == pytest.approx(weight_left(0.02), rel=0.05)
    assert average_share(0.0, 100.0, 0, 0.035) == 0.1  # first steps count, however short
    assert average_share(50.0, 1.0, 10, 0.035) == pytest.approx(1)


def test_the_clock_goes_on_from_a_start_that_was_before_it(tmp_path, capsys):
    clock = Clock(10, tmp_path / "log", start=time.time() - 4, who="VAE ")
    clock.say("step", 3)
    assert 5 < clock.left <= 6
    assert capsys.readouterr().out == (tmp_path / "log").read_text()
    assert (tmp_path / "log").read_text().endswith("VAE step 3\n")


# ---- workers and their memory


def test_slots_of_the_ring_do_not_touch():
    ring = Ring(3, 60)
    for slot in range(3):
        ring.view(slot, (60,))[:] = slot + 1
    assert [set(ring.view(slot, (4, 5, 3)).ravel()) for slot in range(3)] == [{1}, {2}, {3}]
    with pytest.raises(ValueError, match="do not fit"):
        ring.view(0, (61,))


@pytest.mark.parametrize("side", [16, 64, 128, 256, 512])
def test_a_chunk_fits_into_a_slot(side):
    for source in (PictureSource(letters, frozenset(), (1.0,)), FilmSource(letters, frozenset())):
        count = source.chunk(side)
        assert count >= 1
        if count > 1:
            assert count * np.prod(source.shape(side)) <= source.slot_bytes


@pytest.fixture
def make_workers():
    made = []

    def make(source, sides, **options):
        made.append(Workers(source, sides, **{"count": 1, "slots": 2, "seed": 5, **options}))
        return made[-1]

    yield make
    for workers in made:
        workers.stop()


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_workers_draw_what_is_wanted_with_its_captions(kind, make_workers):
    sides = [16, 24]
    source = FilmSource(letters, frozenset())
    if kind == "picture":
        source = PictureSource(letters, frozenset(), (1.0,))
    source.slot_bytes = 4 * int(np.prod(source.shape(24)))
    workers = make_workers(source, sides)
    seen = set()
    for _ in range(12):
        slot, side, ids, lengths = workers.ready.get(timeout=300)
        drawn = workers.samples(slot, side)
        assert drawn.shape == (source.chunk(side), *source.shape(side))
        assert len(ids) == len(lengths) == len(drawn)
        assert all(sample.std() > 0 for sample in drawn)
        workers.free.put(slot)
        seen.add(side)
        workers.want[:] = [0.0, 1.0] if side == 16 else [1.0, 0.0]
        if seen == set(sides):
            break
    assert seen == set(sides)


def test_the_same_seed_draws_the_same(make_workers):
    def first_chunk():
        source = PictureSource(letters, frozenset(), (1.0,))
        source.slot_bytes = 2 * 16 * 16 * 3
        workers = make_workers(source, [16])
        slot, side, ids, _ = workers.ready.get(timeout=300)
        return workers.samples(slot, side).copy(), ids

    for first, second in zip(first_chunk(), first_chunk()):
        assert np.array_equal(first, second)


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_held_out_captions_are_never_drawn(kind):
    class WithRed:
        def __contains__(self, text: str) -> bool:
            return "red" in text

    source = FilmSource(letters, WithRed())
    if kind == "picture":
        source = PictureSource(letters, WithRed(), (1.0,))
    rng, out = np.random.default_rng(0), np.empty(source.shape(8), np.uint8)
    drawn = [source.draw(rng, out) for _ in range(60)]
    assert not [text for text in drawn if "red" in text]
    assert [text for text in drawn if "green" in text]


def test_a_drawn_picture_is_what_its_caption_says():
    out = np.empty((128, 128, 3), np.uint8)
    text = PictureSource(letters, frozenset(), (1.0,)).draw(np.random.default_rng(3), out)
    scene = parse_caption(text)
    assert caption(scene) == text
    plain = render_scene(scene, 128)
    assert np.abs(out / 255 - plain).mean() < 0.15


@pytest.mark.parametrize("side", [32, 128])
def test_painted_bytes_are_the_rendered_clip(side):
    rng, times = np.random.default_rng(1), frame_times(9)
    out = np.empty((9, side, side, 3), np.uint8)
    for seed in range(10):
        clip = sample_clip(rng)
        paint(clip, side, times, np.random.default_rng(seed), out)
        want = render(clip, side, times, np.random.default_rng(seed))
        assert np.array_equal(out, np.round(want * 255))


def test_the_same_films_measure_a_vae_every_time():
    prompts = read_prompts(KINDS["film"].prompts)[:2]
    films = held_out_films(prompts, 16)
    assert films.shape == (2, FILM_FRAMES, 16, 16, 3)
    assert np.array_equal(films, held_out_films(prompts, 16))


# ---- judges and sheets


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_judges_find_what_was_drawn(kind):
    rng = np.random.default_rng(4)
    if kind == "picture":
        prompts = read_prompts(KINDS[kind].prompts)[:3]
        drawn = [(render_scene(parse_caption(p), 128, rng) * 255).astype(np.uint8) for p in prompts]
    else:
        prompts = [clip_caption(sample_clip(rng)) for _ in range(3)]
        drawn = held_out_films(prompts, 64)
    judges = Judges(kind, 1)
    try:
        verdicts = [task.get(timeout=300) for task in judges.submit(drawn, prompts)]
    finally:
        judges.stop()
    shares = judges.shares(verdicts)
    assert shares["prompts"] == 3
    assert shares["found"] == shares["color"] == 1


@pytest.mark.parametrize("columns", [1, 2])
def test_a_sheet_is_a_picture_of_all_samples_that_stays_small(columns, monkeypatch):
    rng = np.random.default_rng(0)
    noise = list(rng.integers(256, size=(3, 64, 64, 3), dtype=np.uint8))
    data = make_sheet(noise, columns)
    assert data.startswith(b"\x89PNG")
    monkeypatch.setattr("gpu.judges.SHEET_BYTES", len(data) // 3)
    assert len(make_sheet(noise, columns)) <= len(data) // 3
    assert make_sheet(rng.integers(256, size=(2, 9, 16, 16, 3), dtype=np.uint8), columns)


# ---- exports and their way back


def export(results: Results, folder: Path, content: bytes, step: int, last: bool = False) -> None:
    files = [folder / "transformer/weights", folder / "text_encoder/weights"]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    results.export(files, folder, step, 1.0, last)


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    for name in ("transformer/weights", "text_encoder/weights", "vae/weights"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"old")
    return folder


@pytest.fixture
def results(tmp_path):
    (tmp_path / "results").mkdir()
    return Results(tmp_path / "results", {})


def test_the_last_export_comes_back_in_pieces(results, model, tmp_path):
    rng = np.random.default_rng(0)
    export(results, tmp_path / "work", b"early", 1)
    late = rng.bytes(PIECE_BYTES // 2 + 1000)
    export(results, tmp_path / "work", late, 2, last=True)
    pieces = sorted(p.name for p in results.folder.glob("weights-*"))
    assert pieces == ["weights-b.tar.00", "weights-b.tar.01"]
    assemble.assemble(results.folder, model, tmp_path / "new")
    assert (tmp_path / "new/transformer/weights").read_bytes() == late
    assert (tmp_path / "new/vae/weights").read_bytes() == b"old"
    assert (model / "transformer/weights").read_bytes() == b"old"


def test_an_export_that_was_cut_off_leaves_the_one_before(results, model, tmp_path, capsys):
    export(results, tmp_path / "work", b"first", 1)
    export(results, tmp_path / "work", b"second", 2)
    (results.folder / "weights-b.tar.00").write_bytes(b"half of the third")
    assemble.assemble(results.folder, model, tmp_path / "new")
    assert (tmp_path / "new/transformer/weights").read_bytes() == b"first"
    assert "before the last" in capsys.readouterr().out


def test_results_that_hold_no_whole_export_are_refused(results, model, tmp_path):
    export(results, tmp_path / "work", b"only", 1)
    (results.folder / "weights-a.tar.00").write_bytes(b"torn")
    with pytest.raises(SystemExit, match="no complete export"):
        assemble.assemble(results.folder, model, tmp_path / "new")


def test_weights_of_another_model_are_refused(results, tmp_path):
    export(results, tmp_path / "work", b"weights", 1, last=True)
    (tmp_path / "other/vae").mkdir(parents=True)
    with pytest.raises(SystemExit, match="not the folder of this training"):
        assemble.assemble(results.folder, tmp_path / "other", tmp_path / "new")


def test_the_report_names_the_export_by_its_sum(results, tmp_path):
    export(results, tmp_path / "work", b"x", 7)
    named = results.report["weights"]
    data = b"".join((results.folder / name).read_bytes() for name in named["pieces"])
    assert hashlib.sha256(data).hexdigest() == named["sha256"]
    assert (named["step"], named["files"]) == (7, 2)
    assert not list(results.folder.glob("*.partial"))


# ---- packing


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_a_pack_holds_code_prompts_and_model_under_their_paths(kind):
    names = {path.as_posix() for path in pack_training.members(kind)}
    chosen = KINDS[kind]
    for path in (chosen.prompts, *chosen.model.rglob("*.safetensors"), Path(pack_training.__file__)):
        assert path.relative_to(ROOT).as_posix() in names
    for module in (
        "train/train_gpu.py",
        "train/gpu/run.py",
        "train/scenes.py",
        "quality/detect.py",
    ):
        assert f"tools/{module}" in names
    assert not [name for name in names if "__pycache__" in name]
    others = {KINDS[other].model.name for other in KIND_NAMES} - {chosen.model.name}
    assert not [name for name in names if others & set(name.split("/"))]


def test_a_packed_archive_runs_where_it_is_unpacked(tmp_path, monkeypatch):
    archive = tmp_path / "deep/run.tar.gz"
    monkeypatch.setattr(sys, "argv", ["pack_training.py", "film", str(archive)])
    pack_training.main()
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "there", filter="data")
    code = "import pack_training, gpu.workers; print(len(pack_training.members('film')))"
    there = tmp_path / "there/tools/train"
    ran = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=there, capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) == len(pack_training.members("film"))


def test_banks_have_room_for_a_batch_of_every_stage():
    for name, kind in KINDS.items():
        for side, batch in schedule_of(name).batches.items():
            assert samples(kind.room, side, 1.0) >= samples(kind.ahead, side, 1.0) >= batch
    assert samples({64: 100}, 64, 0.001) == 64
