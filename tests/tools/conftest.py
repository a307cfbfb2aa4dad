"""Makes the modules of tools/ importable, as the scripts there import each other."""

import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[2] / "tools"
sys.path[:0] = [str(TOOLS / name) for name in ("quality", "train", "plots")]
