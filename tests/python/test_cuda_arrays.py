"""Arrays on a GPU: refused in one line without one, and served by the package over the emulated device
(python_emulated in the build tree), in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tamias
from tamias import ops

ROOT = Path(__file__).parents[2]
EMULATED = ROOT / "build/release/python_emulated"


def test_a_build_without_a_gpu_says_so():
    with pytest.raises(tamias.DeviceError) as error:
        ops.Context(device="cuda:0", dtype="bf16")
    assert "GPU 0: this" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ValueError, match="device: expected cpu, cuda or cuda:<number>, found 'gpu'"):
        ops.Context(device="gpu")


def test_the_emulated_gpu():
    assert EMULATED.is_dir(), "build it: ./scripts/build"
    environment = os.environ | {
        "PYTHONPATH": f"{EMULATED}:{Path(__file__).parent}",
        "OMP_WAIT_POLICY": "passive",
    }
    tests = Path(__file__).parent / "emulated_gpu.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest", str(tests)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
