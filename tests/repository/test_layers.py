"""A file of src/ includes its own layer and those below it; apps include what users of the library do."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAYERS = ["base", "io", "ops", "sparsity", "models", "pipeline"]
# Operations know tensors only: files are none of their business.
FORBIDDEN = {("ops", "io")}


def layer_of(path: Path) -> str:
    return path.relative_to(ROOT / "src").parts[0]


def included_layers(path: Path) -> set[str]:
    names = re.findall(r'^#include "(\w+)/', path.read_text(), re.MULTILINE)
    return {name for name in names if name in LAYERS}


def test_every_source_belongs_to_a_layer():
    sources = [*ROOT.glob("src/**/*.cc"), *ROOT.glob("src/**/*.h"), *ROOT.glob("src/**/*.cu*")]
    assert len(sources) > 50
    assert {layer_of(path) for path in sources} == set(LAYERS)


def test_no_layer_includes_a_higher_one():
    wrong = []
    for path in [*ROOT.glob("src/**/*.cc"), *ROOT.glob("src/**/*.h"), *ROOT.glob("src/**/*.cu*")]:
        layer = layer_of(path)
        for other in included_layers(path):
            if LAYERS.index(other) > LAYERS.index(layer) or (layer, other) in FORBIDDEN:
                wrong.append(f"{path.relative_to(ROOT)} includes {other}/")
    assert not wrong, "\n".join(wrong)


def test_public_headers_include_only_public_headers():
    for path in ROOT.glob("include/tamias/*.h"):
        for name in re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE):
            assert name.startswith("tamias/"), f"{path.name} includes {name}"


# `tamias bench` measures single operations and layers, which no public header offers.
BENCH = {
    f"apps/tamias/{name}"
    for name in ("bench.cc", "bench.h", "bench_attention.cc", "bench_film.cc", "bench_film.h", "bench_mlp.cc")
}


def private_headers(path: Path) -> list[str]:
    """What a file of apps/ includes that is neither public, its neighbour nor third-party."""
    names = re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE)
    return [name for name in names if not name.startswith("tamias/") and not (path.parent / name).exists()]


def test_apps_include_public_headers_only():
    sources = [*ROOT.glob("apps/**/*.cc"), *ROOT.glob("apps/**/*.h")]
    assert len(sources) > 20
    private = {str(path.relative_to(ROOT)): private_headers(path) for path in sources}
    for name in BENCH:
        assert private.pop(name), f"{name} includes no private header: it is no exception any more"
    wrong = [f"{name} includes {header}" for name, headers in private.items() for header in headers]
    assert not wrong, "\n".join(wrong)


def test_every_operation_has_reference_cpu_and_test():
    """One operation, one base name everywhere."""
    for header in (ROOT / "src/ops").glob("*.h"):
        name = header.stem
        if not (ROOT / f"src/ops/cpu/{name}.cc").exists():
            continue  # shared declarations, not an operation
        for path in (f"src/ops/{name}.cc", f"src/ops/reference/{name}.cc", f"tests/ops/{name}_test.cc"):
            assert (ROOT / path).exists(), f"{path} is missing"
