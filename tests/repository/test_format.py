"""C++ sources are laid out by clang-format; nothing refers outside the repository."""

import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def tracked(*patterns: str) -> list[str]:
    listing = subprocess.run(
        ["git", "ls-files", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return listing.stdout.split()


def test_cpp_sources_are_formatted():
    assert shutil.which("clang-format"), "clang-format is missing: run scripts/setup"
    sources = tracked("*.cc", "*.h", "*.c", "*.cu", "*.cuh")
    assert sources
    result = subprocess.run(
        ["clang-format", "--dry-run", "--Werror", *sources], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[:4000]


def test_no_leftovers():
    """Unfinished work is left out, not marked."""
    marks = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b")
    found = [
        f"{name}:{number}: {line.strip()}"
        for name in tracked("*.cc", "*.h", "*.c", "*.cu", "*.cuh", "*.py", "scripts/*", "*.md")
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1)
        if marks.search(line)
    ]
    assert not found, "\n".join(found)


def test_large_files_are_the_demo_models_only():
    for name in tracked():
        path = ROOT / name
        if not name.startswith("models/") and path.is_file():
            assert path.stat().st_size < 2_000_000, f"{name} is too large for the repository"
