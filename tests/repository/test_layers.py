"""A file of src/ includes its own layer and those below it, and so does a public header; apps, examples and the Python
bindings include what users of the library do."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAYERS = ["base", "io", "ops", "sparsity", "models", "pipeline"]
# Operations know tensors only: files are none of their business.
FORBIDDEN = {("ops", "io")}
SOURCES = [*ROOT.glob("src/**/*.cc"), *ROOT.glob("src/**/*.h"), *ROOT.glob("src/**/*.cu*")]
PUBLIC = sorted(ROOT.glob("include/tamias/**/*.h"))
# Public headers without a source file of their name.
HEADERS_ONLY = {
    "dtype": "base",
    "error": "base",
    "text": "base",
    "files": "io",
    "image": "io",
    "video": "io",
    "sparsity/geometry": "sparsity",
    "tamias": "pipeline",
}


def layer_of_public(name: str) -> str:
    """The layer that "tamias/<name>.h" belongs to: that of the source that defines what it declares."""
    if name in HEADERS_ONLY:
        return HEADERS_ONLY[name]
    layers = [layer for layer in LAYERS if (ROOT / f"src/{layer}/{name}.cc").exists()]
    layers += [layer for layer in LAYERS if (ROOT / f"src/{name}.cc").exists() and name.startswith(f"{layer}/")]
    assert len(layers) == 1, f"include/tamias/{name}.h: no layer has its source, or several have: {layers}"
    return layers[0]


def layer_of(path: Path) -> str:
    if path.is_relative_to(ROOT / "src"):
        return path.relative_to(ROOT / "src").parts[0]
    return layer_of_public(str(path.relative_to(ROOT / "include/tamias").with_suffix("")))


def includes(path: Path) -> list[str]:
    return re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE)


def included_layers(path: Path) -> set[str]:
    names = includes(path)
    layers = {name.split("/")[0] for name in names if name.split("/")[0] in LAYERS}
    return layers | {layer_of_public(n[len("tamias/") : -2]) for n in names if n.startswith("tamias/")}


def test_every_source_belongs_to_a_layer():
    assert len(SOURCES) > 50
    assert {layer_of(path) for path in SOURCES} == set(LAYERS)


def test_every_public_header_belongs_to_a_layer():
    assert len(PUBLIC) > 40
    for path in PUBLIC:
        layer_of(path)
    for name in HEADERS_ONLY:
        assert (ROOT / f"include/tamias/{name}.h").exists(), f"tamias/{name}.h: not there any more"


def test_no_layer_includes_a_higher_one():
    wrong = []
    for path in [*SOURCES, *PUBLIC]:
        layer = layer_of(path)
        for other in included_layers(path):
            if LAYERS.index(other) > LAYERS.index(layer) or (layer, other) in FORBIDDEN:
                wrong.append(f"{path.relative_to(ROOT)} includes {other}")
    assert not wrong, "\n".join(wrong)


def test_public_headers_include_public_and_standard_headers_only():
    for path in PUBLIC:
        for name in includes(path):
            assert name.startswith("tamias/"), f"{path.name} includes {name}"
        for name in re.findall(r"^#include <([^>]+)>", path.read_text(), re.MULTILINE):
            assert re.fullmatch(r"\w+(\.h)?", name), f"{path.name} includes <{name}>, of another library"


def test_models_and_above_leave_the_device_forms_of_public_operations_alone():
    """src/ops/X.h declares them for the operation itself, its tests and benchmarks."""
    public = {path.name for path in ROOT.glob("include/tamias/ops/*.h")}
    for path in SOURCES:
        if layer_of(path) != "ops":
            wrong = [n for n in includes(path) if n.startswith("ops/") and n[len("ops/") :] in public]
            assert not wrong, f"{path.relative_to(ROOT)} includes {wrong} instead of tamias/ops/"


def private_headers(path: Path) -> list[str]:
    """What a file of apps/ or examples/ includes that is neither public, of an app nor third-party."""
    names = re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE)
    is_ours = {n: n.startswith("tamias/") or (path.parent / n).exists() or (ROOT / "apps" / n).exists() for n in names}
    return [name for name in names if not is_ours[name]]


def test_apps_examples_and_bindings_include_public_headers_only():
    sources = [*ROOT.glob("apps/**/*.cc"), *ROOT.glob("apps/**/*.h"), *ROOT.glob("examples/*.cc")]
    sources += [*ROOT.glob("python/src/*.cc"), *ROOT.glob("python/src/*.h")]
    assert len(sources) > 20
    wrong = [f"{path.relative_to(ROOT)} includes {name}" for path in sources for name in private_headers(path)]
    assert not wrong, "\n".join(wrong)


def test_every_operation_has_reference_cpu_and_test():
    """One operation, one base name everywhere."""
    for header in (ROOT / "src/ops").glob("*.h"):
        name = header.stem
        if not (ROOT / f"src/ops/cpu/{name}.cc").exists():
            continue  # shared declarations, not an operation
        for path in (f"src/ops/{name}.cc", f"src/ops/reference/{name}.cc", f"tests/ops/{name}_test.cc"):
            assert (ROOT / path).exists(), f"{path} is missing"
