"""What the command-line tests share: the program, the demo model and small, quick options."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = Path(os.environ.get("TAMIAS_PROGRAM", ROOT / "build/release/tamias"))
MODEL = ROOT / "models/demo-flux"
PROMPT = "a large red circle at the center on a grey background"
# A shell ignores Ctrl-C for what it runs in the background, nohup SIGHUP, and the program keeps to that: tests send
# signals.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)
# 64 image tokens and 4 steps: a second of work.
SMALL = ["--width", "64", "--height", "64", "--steps", "4"]


def run(*arguments, timeout=300, **keywords):
    """Runs tamias; returns the finished process with text output."""
    return subprocess.run(
        [str(PROGRAM), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        # Threads wait asleep: spinning ones make runs of a second take a minute on a busy machine.
        env=os.environ | {"OMP_WAIT_POLICY": "passive"},
        **keywords,
    )


def expect_error(result, status, *fragments):
    """One line on standard error that holds all fragments, the given exit status, no output."""
    assert result.returncode == status, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("tamias: error: ")]
    assert len(lines) == 1, result.stderr
    for fragment in fragments:
        assert fragment in lines[0], lines[0]


def generate(*arguments, **keywords):
    return run("generate", "--model", MODEL, "--prompt", PROMPT, *SMALL, *arguments, **keywords)


@pytest.fixture
def model_copy(tmp_path):
    """A copy of the demo model that a test may break."""
    copy = tmp_path / "model"
    shutil.copytree(MODEL, copy)
    return copy


def read_json(path):
    return json.loads(Path(path).read_text())
