"""Training in miniature on a CPU: the parts that need PyTorch, and whole runs of both ways.

Needs PyTorch, diffusers and transformers, so it is no part of the test suite. Some minutes:

    python -m pytest tools/train/test_training.py
"""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

TOOLS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TOOLS / "train"), str(TOOLS / "quality")]

from assemble import assemble  # noqa: E402
from blocks import PLAIN, Blocks  # noqa: E402
from demo_model import load_model  # noqa: E402
from gpu.banks import Bank, Feeder  # noqa: E402
from gpu.clock import Clock  # noqa: E402
from gpu.compiling import Compiler  # noqa: E402
from gpu.kinds import KINDS  # noqa: E402
from gpu.optimizer import Optimizer, orthogonalised  # noqa: E402
from weights import load_parts  # noqa: E402

torch.set_num_threads(1)
CPU = torch.device("cpu")
SIDE, BATCH = 16, 2


# ---- compiling beside the training


@pytest.fixture(scope="module", params=sorted(KINDS))
def network(request):
    folder = KINDS[request.param].model
    model = load_model(request.param, folder, CPU)
    return model, load_parts(folder, model.files, CPU)["transformer"]


def compiler(network, blocks: Blocks | None) -> Compiler:
    model, weights = network
    return Compiler(model, weights, {SIDE: BATCH}, torch.float32, Clock(600), blocks)


def test_blocks_are_plain_until_the_compiled_ones_are_there(network):
    begun, go_on = threading.Event(), threading.Event()

    def slow_single(*inputs):
        begun.set()
        assert go_on.wait(60)
        return PLAIN.single(*inputs)

    slow = Blocks(PLAIN.double, slow_single)
    thread = compiler(network, slow)
    thread.start()
    assert begun.wait(60)
    assert thread.blocks(SIDE) is PLAIN
    go_on.set()
    thread.join(60)
    assert thread.blocks(SIDE) is slow
    assert thread.blocks(SIDE + 8) is PLAIN
    thread.give_up(SIDE)
    assert thread.blocks(SIDE) is PLAIN


def wrong_velocity(*inputs):
    return PLAIN.single(*inputs) * 1.5


def wrong_gradients(*inputs):
    x = PLAIN.single(*inputs)
    return x.detach() + 0.5 * (x - x.detach())


def failing(*inputs):
    raise RuntimeError("no compiler")


@pytest.mark.parametrize("single", [wrong_velocity, wrong_gradients, failing])
def test_blocks_that_differ_or_fail_are_not_used(network, single, capsys):
    thread = compiler(network, Blocks(PLAIN.double, single))
    thread.start()
    thread.join(120)
    assert thread.blocks(SIDE) is PLAIN
    assert ("FAILED" if single is failing else "NOT USED") in capsys.readouterr().out


@pytest.mark.parametrize("network", ["film"], indirect=True)
def test_compiled_blocks_are_found_right_and_run_in_another_thread(network, monkeypatch):
    import torch._dynamo

    torch._dynamo.reset()
    thread = compiler(network, None)
    thread.start()
    thread.join(580)
    assert thread.blocks(SIDE) is not PLAIN
    monkeypatch.setattr(torch._dynamo.config, "error_on_recompile", True)
    again = compiler(network, thread.blocks(SIDE))
    _, loss, gradient = again._pass(SIDE, BATCH, thread.blocks(SIDE))
    _, plain_loss, plain_gradient = again._pass(SIDE, BATCH, PLAIN)
    assert loss.item() == pytest.approx(plain_loss.item(), rel=1e-4)
    assert (gradient - plain_gradient).norm() < 1e-3 * plain_gradient.norm()


# ---- optimiser


@pytest.mark.parametrize("shape", [(3, 20, 50), (2, 50, 20), (1, 8, 8)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)))
    assert 0.3 < values.min() and values.max() < 1.3


def test_the_optimizer_finds_the_least_of_a_square_and_restarts():
    torch.manual_seed(0)
    matrix, kernel, vector = torch.zeros(6, 4), torch.zeros(4, 2, 3), torch.zeros(5)
    weights = [w.requires_grad_() for w in (matrix, kernel, vector)]
    wanted = [torch.randn_like(w) for w in weights]
    optimizer = Optimizer(weights[:2], weights[2:], 0.05, 0.05, decays=(0.0, 0.0))

    def distance() -> torch.Tensor:
        return sum((w - x).square().sum() for w, x in zip(weights, wanted))

    began = distance().item()
    for step in range(600):
        for w in weights:
            w.grad = None
        distance().backward()
        if step == 300:
            optimizer.restart(0.5)
        optimizer.step(1.0 - step / 600)
    assert distance().item() < 0.01 * began


# ---- banks


class Drawn:
    """Stands in for workers: chunks of four samples whose pixels are their number."""

    slot_bytes = 4 * 16 * 16 * 3

    def __init__(self, chunks: int) -> None:
        self.source, self.sides, self.want = self, [16], [0.0]
        self.free, self.ready = queue.Queue(), queue.Queue()
        self._chunks = [np.full((4, 16, 16, 3), i, np.uint8) for i in range(chunks)]
        for i in range(chunks):
            self.ready.put((i, 16, np.full((4, 2), i, np.int16)))

    def chunk(self, side: int) -> int:
        return 4

    def samples(self, slot: int, side: int) -> np.ndarray:
        return self._chunks[slot]


def encode(samples: torch.Tensor) -> torch.Tensor:
    return samples.flatten(1)[:, :8].reshape(-1, 4, 2).float()


def wait_until(condition) -> None:
    end = time.time() + 60
    while not condition():
        assert time.time() < end
        time.sleep(0.01)


def feeder_of(workers: Drawn, bank: Bank, encode=None) -> Feeder:
    feeder = Feeder(workers, {16: bank}, CPU, {16: 20}, {16: 0.5}, 16 * 16 * 3, Clock(60), encode)
    feeder.start()
    return feeder


def test_a_bank_without_pixels_replaces_the_oldest():
    ids = [np.zeros((1, 2), np.int16)]
    workers, bank = Drawn(4), Bank(16, 12, ids, CPU, latents=(4, 2))
    feeder = feeder_of(workers, bank, encode)
    wait_until(lambda: bank.encoded == 16)
    feeder.halt()
    assert sorted(bank.latents[:, 0, 0].tolist()) == [1.0] * 4 + [2.0] * 4 + [3.0] * 4
    assert torch.equal(bank.ids[0][:, 0].float(), bank.latents[:, 0, 0])
    assert workers.free.qsize() == 4


def test_kept_pixels_are_encoded_when_there_is_a_vae_and_a_full_bank_stays():
    ids = [np.zeros((1, 2), np.int16)]
    workers = Drawn(4)
    bank = Bank(16, 10, ids, CPU, latents=(4, 2), pixels=(16, 16, 3))
    feeder = feeder_of(workers, bank)
    wait_until(lambda: workers.free.qsize() == 4)
    assert (bank.arrived, bank.visible) == (10, 0)
    feeder.encode = encode
    wait_until(lambda: bank.visible == 10)
    feeder.halt()
    assert bank.latents[:, 0, 0].tolist() == [0.0] * 4 + [1.0] * 4 + [2.0] * 2


def test_half_of_a_batch_is_new_while_there_are_new_ones():
    bank = Bank(16, 8, [np.zeros((1, 2), np.int16)], CPU, latents=(4, 2))
    bank.arrived = bank.encoded = 8
    first, second = bank.choose(8), bank.choose(8)
    assert first[:4].tolist() == [0, 1, 2, 3]
    assert second[:4].tolist() == [4, 5, 6, 7]
    bank.encoded = 13  # five more: places 0 to 4 again
    assert bank.choose(4)[:2].tolist() == [0, 1]
    assert bank.drawn == 20
    assert bank.choose(100).max() < 8


# ---- whole runs


def run(*command: object, expected: str = "") -> str:
    script, *options = map(str, command)
    done = subprocess.run(
        [sys.executable, TOOLS / "train" / script, *options], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert expected in done.stdout, done.stdout
    return done.stdout


def changed_files(model: Path, output: Path) -> set[str]:
    """Weight files that differ, all of the same names, shapes and types."""
    changed = set()
    for path in model.rglob("*.safetensors"):
        name = path.relative_to(model)
        old, new = load_file(str(path)), load_file(str(output / name))
        assert {k: (v.shape, v.dtype) for k, v in old.items()} == {
            k: (v.shape, v.dtype) for k, v in new.items()
        }
        if any(not torch.equal(old[k], new[k]) for k in old):
            changed.add(name.parts[0])
        assert all(v.isfinite().all() for v in new.values())
    return changed


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_run_in_miniature(kind, tmp_path):
    """From the demo's weights to a folder with new ones; the film's VAE is trained, too."""
    prompts = KINDS[kind].prompts.read_text().splitlines()[:2]
    (tmp_path / "prompts.txt").write_text("\n".join(prompts))
    small = ["--stages", "16:2:0.5", "32:2:0.5", "--small", "16:2:2:0.9:0.5", "--capacity", "0.005"]
    few = ["--workers", 1, "--slots", 2, "--judges", 1, "--judged", 2, "--judged-steps", 1]
    limits = ["--final-steps", 1, "--seconds", 580, "--max-steps", 3, "--export-every", 0.01]
    film = ["--vae-until", 550, "--vae-workers", 1, "--vae-batch", 1, "--vae-least-gain", "-99"]
    out = run(
        "train_gpu.py", kind, "--cpu", "--no-compile", "--output", tmp_path / "results",
        "--prompts", tmp_path / "prompts.txt", *small, *few, *limits,
        *(film if kind == "film" else ()),
        expected="FINAL guidance 3.0",
    )  # fmt: skip
    assert "done" in out and "FAILED" not in out
    log = (tmp_path / "results/train.log").read_text()
    assert sorted(log.splitlines()) == sorted(out.splitlines())
    assemble(tmp_path / "results", KINDS[kind].model, tmp_path / "new")
    vae = {"vae"} if kind == "film" else set()
    assert changed_files(KINDS[kind].model, tmp_path / "new") == {
        "transformer", "text_encoder", "text_encoder_2", *vae,
    }  # fmt: skip


def test_pictures_by_windows_go_on_from_their_state(tmp_path):
    model, state = KINDS["picture"].model, tmp_path / "state.pt"
    stage = [
        "train_flux.py",
        "--model",
        model,
        "--state",
        state,
        "--steps",
        1,
        "--bank",
        4,
        "--fp32",
    ]
    run(*stage, "--recipe", "64:4:0:2", "64:3:8:2")
    first = torch.load(state)
    run(*stage, "--recipe", "64:3:8:2")
    assert (first["step"], torch.load(state)["step"]) == (1, 2)
    run("export.py", "--model", model, "--state", state, "--output", tmp_path / "new")
    assert changed_files(model, tmp_path / "new") == {
        "transformer", "text_encoder", "text_encoder_2",
    }  # fmt: skip


def test_films_by_windows_from_a_bank_on_disk(tmp_path):
    model, bank = KINDS["film"].model, tmp_path / "bank"
    clips = ["--files", 1, "--clips", 2, "--side", 32]
    run("clip_bank.py", "--model", model, "--output", bank, *clips)
    recipe = ["--recipe", "32:9:4:0:2", "32:1:2:9:2"]
    state = ["--state", tmp_path / "state.pt", "--steps", 2, "--fp32"]
    run("train_video.py", "--model", model, "--bank", bank, *recipe, *state)
    run("export.py", "--model", model, "--state", state[1], "--output", tmp_path / "new")
    assert "transformer" in changed_files(model, tmp_path / "new")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_fresh_weights_fit_the_networks(kind, tmp_path):
    """As the folder of the demo has them, whose tokenizers and VAE they get."""
    model = KINDS[kind].model
    for name in ("tokenizer", "tokenizer_2", "vae"):
        (tmp_path / name).mkdir()
        for path in (model / name).iterdir():
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    run("fresh_model.py", kind, "--model", tmp_path)
    assert changed_files(model, tmp_path) >= {"transformer", "text_encoder", "text_encoder_2"}
    assert (tmp_path / "model_index.json").exists()
