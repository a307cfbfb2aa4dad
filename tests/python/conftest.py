"""What the tests of the Python package share: the package of the build tree and a small generation."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = Path(os.environ.get("TAMIAS_PYTHON", ROOT / "build/release/python"))
# Threads that wait asleep; read when the module loads its OpenMP runtime.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(PACKAGE))

PROMPT = "a large red circle at the center on a grey background"
# 64 image tokens and 4 steps: a second of work.
SMALL = {"width": 64, "height": 64, "steps": 4}


@pytest.fixture(scope="session")
def pipeline():
    import tamias

    return tamias.Pipeline(ROOT / "models/demo-flux")


@pytest.fixture(scope="session")
def films():
    import tamias

    return tamias.Pipeline(ROOT / "models/demo-video")
