"""A source file says in its first comment what it is for. A file of tests says so by its name."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = [
    "src",
    "include",
    "apps",
    "bench",
    "examples",
    "tools",
    "scripts",
    "cmake",
    "CMakeLists.txt",
    "tests",
]
SUFFIXES = {".c", ".cc", ".h", ".cu", ".cuh", ".py", ".sh", ".cmake", ".yml"}
TEST = re.compile(r"^tests/.*(_test\.cc|_test\.c|/test_\w+\.py)$")
COMMENT = re.compile(r'(?:#!.*\n\s*)?(?://+|/\*+|r?"""|#(?!!|include|pragma|if|define))\s*(\S.*)')


def wants_comment(name: str) -> bool:
    path = Path(name)
    is_source = (
        path.suffix in SUFFIXES or path.name == "CMakeLists.txt" or name.startswith("scripts/")
    )
    return is_source and not TEST.match(name) and "/corpus/" not in name and "/data/" not in name


def first_comment(text: str) -> str:
    """The first line of the comment that a file begins with; empty without one."""
    match = COMMENT.match(text)
    return match.group(1) if match else ""


def test_every_source_says_what_it_is_for():
    names = subprocess.run(
        ["git", "ls-files", "--", *SOURCES], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    sources = [name for name in names if name and wants_comment(name) and (ROOT / name).is_file()]
    assert len(sources) > 300
    silent = [name for name in sources if len(first_comment((ROOT / name).read_text()).split()) < 3]
    assert not silent, "no first comment that says what the file is for:\n" + "\n".join(silent)


def test_what_counts_as_a_first_comment():
    assert first_comment("// Adds numbers.\n#include <x>") == "Adds numbers."
    assert first_comment("/* Adds numbers. */") == "Adds numbers. */"
    assert first_comment('#!/usr/bin/env python3\n"""Adds numbers."""') == 'Adds numbers."""'
    assert first_comment("#!/usr/bin/env bash\n# Adds numbers.") == "Adds numbers."
    assert first_comment("# Adds numbers.") == "Adds numbers."
    for text in (
        "#include <x>\n// Late.",
        "#pragma once\n// Late.",
        "int x;",
        "",
        "#!/bin/sh\ntrue\n# Late.",
    ):
        assert first_comment(text) == ""
    assert (
        wants_comment("src/ops/norm.cc")
        and wants_comment("tests/support/operands.h")
        and wants_comment("scripts/build")
    )
    assert not wants_comment("tests/ops/norm_test.cc") and not wants_comment("tests/data/x/y.py")
