"""An archive of the GPU programs and all they need, for a machine with an NVIDIA driver and nothing that we build with.

It holds one folder, tamias-gpu: bin/ (programs), lib/ (every shared library but the C library's and FFmpeg's, found by
the programs through their own path), models/, configs/, tests/data/, tools/. FFmpeg's libraries, which are larger than
all the rest together, are replaced by stand-ins whose functions fail: pictures and the frames of films are written as
PNG without them. cuBLASLt (0.5 GB) is that machine's own.
"""

import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from machine import leave
from programs import ROOT, benches, build, output_of, toolkit

MOST_BYTES = 64 * 2**20
FFMPEG = ("avformat", "avcodec", "avutil", "swscale")
C_LIBRARY = re.compile(r"^(ld-linux.*|lib(c|m|dl|rt|pthread|resolv))\.so")
BUILD = ROOT / "build" / "gpu-pack"
# One copy of the kernels for all programs; libraries found beside the programs (the old tag, which counts for the
# libraries' own libraries, too); tests that look for their data where they are run.
OPTIONS = (
    "-DBUILD_SHARED_LIBS=ON",
    "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON",
    "-DCMAKE_INSTALL_RPATH=$ORIGIN;$ORIGIN/../lib",
    "-DCMAKE_EXE_LINKER_FLAGS=-Wl,--disable-new-dtags",
    "-DCMAKE_SHARED_LINKER_FLAGS=-Wl,--disable-new-dtags",
    "-DTAMIAS_TEST_ROOT=.",
)
FOLDERS = ("configs", "models", "tests/data/models", "tests/data/pipeline", "tools")
TOP = "tamias-gpu"


def libraries_of(file: Path) -> dict[str, str]:
    """Name and file of each shared library, as the loader finds them."""
    lines = output_of(["ldd", file]).splitlines()
    return dict(match.groups() for line in lines if (match := re.match(r"\s*(\S+) => (/\S+)", line)))


def undefined_symbols(file: Path) -> list[tuple[str, str]]:
    """(symbol, version) of those that another library has."""
    names = [line.split()[-1] for line in output_of(["nm", "-D", "--undefined-only", file]).splitlines()]
    return [tuple(name.split("@")) for name in names if name.count("@") == 1]


def stand_in(name: str, symbols: list[str], version: str, target: Path) -> None:
    """A library of this name whose functions return -1."""
    with tempfile.TemporaryDirectory() as folder:
        source, versions = Path(folder) / "stand_in.c", Path(folder) / "versions"
        source.write_text("".join(f"long {symbol}(void) {{ return -1; }}\n" for symbol in symbols))
        listed = "".join(f" {symbol};" for symbol in symbols)
        versions.write_text(f"{version} {{ global:{listed} local: *; }};\n")
        command = ["gcc", "-shared", "-fPIC", "-w", "-fno-builtin", "-o", target, source]
        command += [f"-Wl,-soname,{name}", f"-Wl,--version-script={versions}"]
        subprocess.run(command, check=True)


def is_ffmpeg(name: str) -> bool:
    return any(name.startswith(f"lib{part}.so") for part in FFMPEG)


def gather_libraries(files: list[Path], folder: Path) -> None:
    """Copies what the files need into the folder, and makes FFmpeg's stand-ins."""
    libraries, symbols = {}, set()
    for file in files:
        symbols |= set(undefined_symbols(file))
        libraries |= libraries_of(file)
    for name in sorted(filter(is_ffmpeg, libraries)):
        version = f"LIB{name[3:].split('.')[0].upper()}_{name.rsplit('.', 1)[1]}"
        stand_in(name, sorted(symbol for symbol, of in symbols if of == version), version, folder / name)
    # Of FFmpeg's own libraries none is needed: what the others and the programs ask for is.
    needed = set()
    waiting = [*files]
    while waiting:
        for line in output_of(["readelf", "-d", waiting.pop()]).splitlines():
            match = re.search(r"\(NEEDED\).*\[(.*)\]", line)
            if not match or match[1] in needed or is_ffmpeg(match[1]) or C_LIBRARY.match(match[1]):
                continue
            needed.add(match[1])
            if match[1] in libraries:
                waiting.append(Path(libraries[match[1]]))
    for name in needed & libraries.keys():  # libtamias.so is there already
        shutil.copy(libraries[name], folder / name)


def gather_programs(folder: Path) -> list[Path]:
    programs = [BUILD / "tamias", BUILD / "tests/cuda_device_test", *(BUILD / "bench" / name for name in benches())]
    library = BUILD / "src/libtamias.so"
    targets = [folder / "bin" / path.name for path in programs] + [folder / "lib" / "libtamias.so"]
    for source, target in zip([*programs, library], targets):
        target.parent.mkdir(exist_ok=True)
        subprocess.run(["strip", "--strip-unneeded", "-o", target, source], check=True)
    gather_libraries([*programs, library], folder / "lib")
    return targets


def gather_files(folder: Path) -> None:
    """What git tracks of FOLDERS."""
    for name in output_of(["git", "ls-files", "--", *FOLDERS, "LICENSE"]).splitlines():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)


def pack(archive: Path, architectures: str) -> None:
    if not re.search(r"\.(tar\.gz|tgz|tar\.xz)$", archive.name):
        leave(2, f"--pack: expected a name that ends in .tar.gz or .tar.xz, found '{archive.name}'")
    nvcc = toolkit()
    BUILD.mkdir(parents=True, exist_ok=True)
    log = BUILD / "log.txt"
    log.write_text("")
    build(BUILD, architectures, log, OPTIONS)
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / TOP
        folder.mkdir()
        gather_programs(folder)
        gather_files(folder)
        commit = output_of(["git", "describe", "--always", "--dirty"])
        manifest = {"commit": commit, "nvcc": nvcc, "architectures": architectures}
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        part = archive.with_name(f".{archive.name}.part")
        with tarfile.open(part, "w:xz" if archive.suffix == ".xz" else "w:gz") as tar:
            tar.add(folder, TOP)
    size = part.stat().st_size
    if size > MOST_BYTES:
        part.unlink()
        leave(1, f"the archive would have {size / 2**20:.1f} MiB, more than 64: fewer --architectures, or .tar.xz")
    os.replace(part, archive)
    print(f"gpu_check: {archive}, {size / 2**20:.1f} MiB. On the machine with the GPU:")
    print(f"  tar xf {archive.name} && python3 {TOP}/tools/gpu_check --only tests")
