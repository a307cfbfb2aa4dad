"""Kernels declare what the emulator and nvcc count: launch bounds and shared memory."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = [path for path in sorted(ROOT.glob("src/**/*.cu*")) if path.name != "launch_bounds.cuh"]
KERNEL = re.compile(
    r"__global__ void\s+(?:__launch_bounds__\((?P<bounds>[^)]*)\)\s+)?(?P<name>\w+)"
    r"\([^{;]*\)\s*\{\s*(?P<first>[^;]*;)"
)


def kernels() -> list[tuple[str, str, str]]:
    """(name, launch bounds, first statement) of every kernel."""
    found = []
    for path in SOURCES:
        text = path.read_text()
        matches = list(KERNEL.finditer(text))
        assert len(matches) == text.count("__global__"), f"{path.name}: a kernel that is not understood"
        found += [(match["name"], match["bounds"], match["first"]) for match in matches]
    return found


def test_every_kernel_has_launch_bounds_and_the_emulator_knows_them():
    assert len(kernels()) > 20
    for name, bounds, first in kernels():
        assert bounds, f"{name}: without launch bounds nvcc may give it more registers than fit"
        assert first == f"CheckLaunchBounds<{bounds.split(',')[0]}>();", f"{name} begins with {first}"


def test_shared_variables_are_declared_by_kernels():
    """In a function that kernels call they would not be counted: it takes a reference instead."""
    wrong = []
    for path in SOURCES:
        for function in re.split(r"\n}\n", path.read_text()):
            declares = re.search(r"^\s+__shared__ ", function, re.MULTILINE)
            if declares and "__global__" not in function:
                wrong.append(f"{path.name}: {declares.group().strip()} outside a kernel")
    assert not wrong, "\n".join(wrong)
