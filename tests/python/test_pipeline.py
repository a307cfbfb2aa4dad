"""tamias.Pipeline: the engine from Python."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import tamias
from conftest import PACKAGE, PROMPT, ROOT, SMALL
from PIL import Image


@pytest.fixture(scope="module")
def result(pipeline):
    return pipeline.generate(PROMPT, seed=3, **SMALL)


def test_pictures_and_latents_are_arrays(result):
    (image,) = result.images
    assert image.shape == (64, 64, 3)
    assert image.dtype == np.uint8
    assert image.std() > 1
    (latents,) = result.latents
    assert latents.dtype == np.float32
    assert latents.shape == (64, 32)
    assert np.isfinite(latents).all()
    assert result.seconds_total > 0
    assert len(result.report["steps"]) == 4


def test_the_picture_is_that_of_the_command_line(result, tmp_path):
    program = ROOT / "build/release/tamias"
    path = tmp_path / "picture.png"
    options = ["--width", "64", "--height", "64", "--steps", "4", "--seed", "3", "--prompt", PROMPT]
    model = ["--model", str(ROOT / "models/demo-flux"), "--output", str(path)]
    subprocess.run([program, "generate", *model, *options], check=True, capture_output=True)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), result.images[0])
    np.testing.assert_array_equal(tamias.read_image(path), result.images[0])


def test_the_same_seed_gives_the_same_bytes(pipeline, result):
    again = pipeline.generate(PROMPT, seed=3, **SMALL)
    np.testing.assert_array_equal(again.latents[0], result.latents[0])
    other = pipeline.generate(PROMPT, seed=4, **SMALL)
    assert not np.array_equal(other.latents[0], result.latents[0])


def test_progress_tells_stages_and_steps(pipeline):
    seen = []
    pipeline.generate(PROMPT, progress=lambda p: seen.append((p.stage, p.step, p.num_steps, p.step_kind)), **SMALL)
    denoised = [entry for entry in seen if entry[0] == "denoise" and entry[3]]
    assert [step for _, step, _, _ in denoised] == [1, 2, 3, 4]
    assert all(kind in ("full", "sparse", "skip") for *_, kind in denoised)
    assert seen[-1][0] == "decode"


def test_progress_stops_a_generation(pipeline):
    with pytest.raises(tamias.CancelledError):
        pipeline.generate(PROMPT, progress=lambda p: False, **SMALL)
    assert pipeline.generate(PROMPT, **SMALL).images


def test_what_a_callback_raises_comes_out(pipeline):
    def fail(progress):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        pipeline.generate(PROMPT, progress=fail, **SMALL)
    with pytest.raises(KeyError, match="mine"):
        pipeline.generate(PROMPT, on_image=lambda index, image: fail(None), **SMALL)


def test_ctrl_c_ends_a_generation(pipeline):
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            pipeline.generate(PROMPT, width=128, height=128, steps=1000, sparsity="off")
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, previous)


def test_pictures_arrive_one_by_one(pipeline):
    seen = []
    result = pipeline.generate(PROMPT, num_images=2, on_image=lambda i, image: seen.append((i, image)), **SMALL)
    assert [index for index, _ in seen] == [0, 1]
    for (_, image), final in zip(seen, result.images):
        np.testing.assert_array_equal(image, final)


def test_predictions_are_given_with_their_noise_level(pipeline):
    seen = []
    pipeline.generate(PROMPT, on_prediction=lambda *given: seen.append(given), decode=False, **SMALL)
    assert [step for step, _, _ in seen] == [0, 1, 2, 3]
    sigmas = [sigma for _, sigma, _ in seen]
    assert sigmas == sorted(sigmas, reverse=True)
    assert seen[0][2].shape == (64, 32)


def test_steps_by_iteration_give_the_same_picture(pipeline, result):
    generation = pipeline.start(PROMPT, seed=3, **SMALL)
    steps, latents = [], []
    for step in generation:
        steps.append(step)
        latents.append(generation.latents)
    assert [step.step for step in steps] == [0, 1, 2, 3]
    assert {step.num_steps for step in steps} == {4}
    np.testing.assert_array_equal(generation.result().images[0], result.images[0])
    assert not np.array_equal(latents[0], latents[1])
    np.testing.assert_array_equal(latents[-1], result.latents[0])


def test_a_generation_may_be_left_and_decoded_as_it_is(pipeline):
    generation = pipeline.start(PROMPT, **SMALL)
    next(generation)
    generation.decode()
    assert generation.is_done
    assert generation.result().images[0].shape == (64, 64, 3)


def test_latents_may_be_set_between_steps(pipeline, result):
    generation = pipeline.start(PROMPT, seed=3, **SMALL)
    for step in generation:
        if step.step == 1:
            generation.latents = generation.latents * 0.5
    assert not np.array_equal(generation.result().latents[0], result.latents[0])
    with pytest.raises(tamias.InvalidArgumentError, match="latents"):
        fresh = pipeline.start(PROMPT, **SMALL)
        next(fresh)
        fresh.latents = np.zeros((3, 32), np.float32)


def test_initial_latents_replace_the_noise(pipeline, result):
    noise = np.random.default_rng(0).standard_normal(result.latents[0].shape, dtype=np.float32)
    one = pipeline.generate(PROMPT, initial_latents=noise, seed=1, **SMALL)
    two = pipeline.generate(PROMPT, initial_latents=[noise], seed=2, **SMALL)
    np.testing.assert_array_equal(one.latents[0], two.latents[0])


def test_latents_are_decoded_later(pipeline, result):
    decoded = pipeline.decode(result.latents[0], width=64, height=64)
    np.testing.assert_array_equal(decoded.images[0], result.images[0])


def test_two_generations_in_threads_equal_those_after_one_another(pipeline):
    alone = pipeline.generate(PROMPT, seed=3, threads=1, **SMALL)  # sums depend on the number of threads
    made = {}

    def work(seed):
        made[seed] = pipeline.generate(PROMPT, seed=seed, threads=1, **SMALL)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(made[3].latents[0], alone.latents[0])
    assert not np.array_equal(made[3].latents[0], made[4].latents[0])


def test_the_interpreter_goes_on_while_it_generates(pipeline):
    counted = 0
    done = threading.Event()

    def work():
        pipeline.generate(PROMPT, width=128, height=128, steps=8, sparsity="off")
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not done.wait(0.005):
        counted += 1
    thread.join()
    assert counted > 10


def test_a_generation_belongs_to_one_thread_at_a_time(pipeline):
    generation = pipeline.start(PROMPT, width=128, height=128, steps=50, sparsity="off")
    generation.step()
    refused, done = [], threading.Event()

    def work():
        while not done.is_set():
            try:
                generation.step()
            except tamias.InvalidArgumentError as error:
                refused.append(str(error))
                done.set()

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert set(refused) == {"generation: expected one thread at a time, found two"}


def test_the_interpreter_ends_while_a_thread_generates():
    program = f"""
import sys, threading, time
sys.path.insert(0, {str(PACKAGE)!r})
import numpy as np, tamias
pipeline = tamias.Pipeline({str(ROOT / "models/demo-flux")!r})
begun = threading.Event()
def generate():
    while True:
        pipeline.generate("x", width=64, height=64, steps=1000, sparsity="off", progress=lambda p: begun.set())
def attend():
    x = np.ones((1, 1, 512, 64), np.float32)
    while True:
        tamias.ops.dense_attention(x, x, x)
for work in (generate, attend):
    threading.Thread(target=work, daemon=True).start()
begun.wait(60)
time.sleep(0.2)
print("the end")
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "the end\n"
    assert "terminate" not in ran.stderr


def test_notes_of_the_command_line_are_warnings(pipeline):
    with pytest.warns(UserWarning, match="world_size"):
        pipeline.generate(PROMPT, overrides={"world_size": 4}, decode=False, **SMALL)


def test_comparison_measures_likeness(pipeline):
    compared = pipeline.compare(PROMPT, width=64, height=64, steps=8, sparsity="demo-tuned")
    assert 10 < compared.psnr < 99
    assert 0 < compared.ssim <= 1
    assert compared.latent_error > 0
    assert compared.speedup > 0
    same = pipeline.compare(PROMPT, sparsity="off", **SMALL)
    assert same.psnr == 99
    assert same.latent_error == 0


def test_overrides_change_the_profile(pipeline):
    yaml = pipeline.sparsity_yaml(overrides={"attn.top_keys": 0.125, "attn.full_step_schedule": [0, 1, 7]})
    assert "0.125" in yaml
    config = tamias.SparsityConfig.parse(yaml)
    assert config.attn.top_keys == 0.125
    assert config.attn.full_step_schedule == {0, 1, 7}


def test_settings_plan_info_and_text(pipeline):
    assert pipeline.info.family == "FluxPipeline"
    assert not pipeline.info.makes_videos
    assert [part.name for part in pipeline.info.components]
    assert pipeline.settings(steps=7).steps == 7
    plan = pipeline.plan_memory(**SMALL)
    assert plan["peak_bytes"] >= max(plan["entries"].values())
    two = pipeline.plan_memory(true_cfg_scale=2, device="cuda:0,cuda:1", max_gpu_memory_bytes=1 << 30, **SMALL)
    assert [memory["device"] for memory in two["devices"]] == ["cuda:0", "cuda:1"]
    assert "weights of vae" in two["devices"][0]["entries"] and "weights of vae" not in two["devices"][1]["entries"]
    assert any(name.endswith("in fp8_e4m3") for name in pipeline.plan_memory(weight_dtype="fp8_e4m3")["entries"])
    with pytest.raises(tamias.InvalidArgumentError, match="expected each device once"):
        pipeline.plan_memory(device="cuda:0,cuda:0", **SMALL)
    text = pipeline.text(PROMPT, seed=9, **SMALL)
    assert PROMPT in str(text)
    assert pipeline.warnings(overrides={"world_size": 4})


def test_films_are_frames_and_their_rate(films, tmp_path):
    result = films.generate("a red star moving left", width=64, height=64, num_frames=5, steps=2)
    (film,) = result.videos
    assert film.frames.shape == (5, 64, 64, 3)
    assert film.fps > 0
    tamias.write_video(tmp_path / "film.mp4", film.frames, film.fps)
    assert (tmp_path / "film.mp4").stat().st_size > 100


def test_pictures_are_written_with_their_settings(pipeline, result, tmp_path):
    text = pipeline.text(PROMPT, seed=3, **SMALL)
    tamias.write_image(tmp_path / "a.png", result.images[0], text)
    assert PROMPT in str(Image.open(tmp_path / "a.png").text)
    assert tamias.encode_image("png", result.images[0], text) == (tmp_path / "a.png").read_bytes()
    with pytest.raises(ValueError, match="format"):
        tamias.encode_image("bmp", result.images[0])
    tamias.write_image(tmp_path / "a.jpg", result.images[0], quality=95)
    assert tamias.psnr(tamias.read_image(tmp_path / "a.jpg"), result.images[0]) > 25


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"width": 63}, ValueError, "width"),
        ({"steps": 0}, tamias.InvalidArgumentError, "steps"),
        ({"true_cfg_scale_2": 2.0}, tamias.InvalidArgumentError, "true_cfg_scale_2"),
        ({"sparsity": "dmeo"}, FileNotFoundError, "did you mean 'demo'"),
        ({"overrides": {"attn.topkeys": 1}}, ValueError, "attn.top_keys"),
        ({"widht": 64}, TypeError, "'widht'"),
        ({"width": "wide"}, TypeError, "width"),
        ({"device": "cuda:99"}, tamias.Error, "GPU"),
        ({"initial_latents": np.zeros((3, 3), np.float32)}, ValueError, "latents"),
        ({"initial_latents": np.zeros((64, 32), np.float64)}, NotImplementedError, "initial_latents"),
        ({"image": np.zeros((8, 8, 3), np.uint8)}, ValueError, "image"),
        ({"image": "no-such.png"}, FileNotFoundError, "no-such.png"),
        ({"seed": -1}, TypeError, "seed"),
        ({"overrides": "attn.top_keys=1"}, TypeError, "overrides"),
    ],
)
def test_bad_options_are_one_line(pipeline, options, kind, text):
    with pytest.raises(kind) as error:
        pipeline.generate(PROMPT, **{**SMALL, **options})
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_none_is_named(tmp_path):
    with pytest.raises(tamias.NotFoundError, match="nothing-here"):
        tamias.Pipeline(tmp_path / "nothing-here")
    with pytest.raises(FileNotFoundError):
        tamias.Pipeline(tmp_path / "nothing-here")


def test_tuning_finds_the_fastest_that_is_alike(pipeline):
    seen = []
    tuned = pipeline.tune([PROMPT], min_psnr=5, on_trial=seen.append, width=64, height=64, steps=6)
    assert tuned.fastest.is_alike
    assert tuned.fastest.speedup == max(trial.speedup for trial in tuned.trials if trial.is_alike)
    assert len(seen) == len(tuned.trials) + 1
    assert tamias.SparsityConfig.parse(tuned.fastest.profile)
