"""What a run writes: exported weights in pieces, a report that names them, sheets.

Exports alternate between two generations, so that one is always complete, and come in pieces small
enough for what carries files away from a GPU machine. `assemble.py` puts them into a folder.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Sequence
from pathlib import Path

PIECE_BYTES = 15 * 2**20
REPORT = "result.json"


class Results:
    """The output folder of a run."""

    def __init__(self, folder: Path, arguments: dict[str, str]) -> None:
        self.folder = folder
        self.report: dict = {"arguments": arguments, "exports": [], "evals": [], "losses": []}
        self._generation = 0
        self._lock = threading.Lock()

    def write(self, name: str, data: bytes) -> None:
        """A file, at once or not at all."""
        partial = self.folder / (name + ".partial")
        partial.write_bytes(data)
        os.replace(partial, self.folder / name)

    def write_report(self, patience: float = -1) -> None:
        """The report as JSON, unless another thread is at it for longer than `patience` seconds."""
        if self._lock.acquire(timeout=patience):
            try:
                self.write(REPORT, json.dumps(self.report, indent=1).encode())
            finally:
                self._lock.release()

    def export(self, files: Sequence[Path], folder: Path, step: int, at: float, last: bool) -> None:
        """Files below a folder as one archive in pieces, then the report that names them."""
        memory = io.BytesIO()
        with tarfile.open(fileobj=memory, mode="w") as archive:
            for path in files:
                archive.add(path, arcname=path.relative_to(folder).as_posix())
        data, letter = memory.getvalue(), "ab"[self._generation % 2]
        names = []
        for first in range(0, len(data), PIECE_BYTES):
            names.append(f"weights-{letter}.tar.{first // PIECE_BYTES:02d}")
            self.write(names[-1], data[first : first + PIECE_BYTES])
        self.report["weights"] = {
            "pieces": names,
            "sha256": hashlib.sha256(data).hexdigest(),
            "files": len(files),
            "step": step,
            "at": round(at, 1),
            "last": last,
        }
        self.report["exports"].append([step, round(at, 1)])
        self.write_report()
        self._generation += 1
        if last:
            for old in self.folder.glob("weights-?.tar.*"):
                if old.name not in names:
                    old.unlink()
