"""Puts the pieces that came back from a GPU machine into a model folder.

RESULTS is the output folder of train_gpu.py (weights-?.tar.?? and result.json), MODEL the folder
that training began from: what was not trained is taken from there. Needs only Python.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

from gpu.results import REPORT


def complete_archive(results: Path) -> tuple[bytes, bool]:
    """The newest export that is whole, and whether it is the one that the report names."""
    report = json.loads((results / REPORT).read_text(encoding="utf-8"))["weights"]
    data = _joined(results / name for name in report["pieces"])
    if hashlib.sha256(data).hexdigest() == report["sha256"]:
        return data, True
    # Cut off in the middle of an export: the other generation is complete.
    for letter in set("ab") - {report["pieces"][0].removeprefix("weights-")[0]}:
        data = _joined(sorted(results.glob(f"weights-{letter}.tar.??")))
        if _is_whole(data, report["files"]):
            return data, False
    raise SystemExit(f"{results}: no complete export")


def _joined(paths: Iterator[Path] | list[Path]) -> bytes:
    return b"".join(path.read_bytes() for path in paths if path.exists())


def _is_whole(data: bytes, files: int) -> bool:
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            return len(archive.getmembers()) == files and data.endswith(b"\0" * 1024)
    except tarfile.TarError:
        return False


def assemble(results: Path, model: Path, output: Path) -> None:
    """Copies `model` to `output` with the exported files in place of its own."""
    data, named = complete_archive(results)
    shutil.copytree(model, output, dirs_exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive.getmembers():
            if not (model / member.name).is_file():
                raise SystemExit(f"{model} has no {member.name}: not the folder of this training")
            (output / member.name).write_bytes(archive.extractfile(member).read())
    print(f"{output}: {'the last export' if named else 'the export before the last'}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("results", "model", "output"):
        parser.add_argument(name, type=Path, metavar=name.upper())
    args = parser.parse_args()
    assemble(args.results, args.model, args.output)


if __name__ == "__main__":
    main()
