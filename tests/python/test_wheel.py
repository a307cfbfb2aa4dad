"""The package as others install it: source archive and wheel by tools/build_wheel, and the wheel installed alone."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    built = subprocess.run(
        [ROOT / "tools/build_wheel", folder], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert built.returncode == 0, built.stderr[-4000:]
    return folder


def test_one_wheel_serves_every_later_python(wheels):
    (wheel,) = wheels.glob("*.whl")
    assert re.fullmatch(r"tamias-[\d.]+-cp310-abi3-manylinux_2_\d+_x86_64\.whl", wheel.name)
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("tamias/__init__.py", "tamias/_tamias.abi3.so", "tamias/_tamias.pyi", "tamias/py.typed",
                 "tamias/configs/demo.yml"):  # fmt: skip
        assert name in names
    assert not [name for name in names if name.startswith(("include/", "lib/", "tests/"))]
    assert wheel.stat().st_size < 64 << 20


def test_the_source_archive_has_what_the_build_needs_and_no_weights(wheels):
    (archive,) = wheels.glob("*.tar.gz")
    names = tarfile.open(archive).getnames()
    assert any(name.endswith("src/CMakeLists.txt") for name in names)
    assert not [name for name in names if name.endswith((".safetensors", ".png"))]
    assert archive.stat().st_size < 4 << 20


def test_the_wheel_generates_alone(wheels, tmp_path):
    (wheel,) = wheels.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", tmp_path, wheel]
    subprocess.run(pip, check=True)
    program = f"""
import sys, tamias
assert tamias.__file__.startswith({str(tmp_path)!r})
assert "torch" not in sys.modules
result = tamias.Pipeline({str(ROOT / "models/demo-flux")!r}).generate("a red circle", width=64, height=64, steps=4)
print(result.images[0].shape, tamias.profiles()[0])
try:
    tamias.write_video("film.mp4", result.images[0][None], 8)
except tamias.UnsupportedError as error:
    print(error)
"""
    environment = {key: value for key, value in os.environ.items() if key != "TAMIAS_CONFIGS"}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"PYTHONPATH": str(tmp_path), "OMP_WAIT_POLICY": "passive"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert "(64, 64, 3) demo" in ran.stdout
    assert "no FFmpeg" in ran.stdout
