"""The GPU of this machine, and the one-line ends of tools/gpu_check."""

import ctypes
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path


def leave(status: int, line: str):
    print(f"gpu_check: {line}", file=sys.stderr)
    sys.exit(status)


def first_gpu() -> dict:
    """Name and compute capability of device 0, asked of the driver itself; without one, the end."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        leave(2, "no GPU: this machine has no NVIDIA driver (libcuda.so.1)")
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or not count.value:
        leave(2, "no GPU: the NVIDIA driver finds no device")
    name = ctypes.create_string_buffer(256)
    driver.cuDeviceGetName(name, 256, 0)
    parts = [ctypes.c_int(), ctypes.c_int()]
    for value, attribute in zip(parts, (75, 76)):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, 0)
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    return {
        "name": name.value.decode(),
        "compute_capability": f"{parts[0].value}{parts[1].value}",
        "driver_cuda": f"{version.value // 1000}.{version.value % 1000 // 10}",
        "driver": driver_release(),
    }


def gpu_memory_reader() -> Callable[[], int | None]:
    """A function that asks NVML how many bytes of device 0 are in use; where it cannot it answers None."""
    try:
        driver, nvml = ctypes.CDLL("libcuda.so.1"), ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return lambda: None
    address, handle = ctypes.create_string_buffer(64), ctypes.c_void_p()
    memory = (ctypes.c_ulonglong * 3)()  # total, free, used
    # NVML counts devices in another order than CUDA: asked for by their place on the bus.
    is_found = driver.cuDeviceGetPCIBusId(address, 64, 0) == 0 and nvml.nvmlInit_v2() == 0
    if not is_found or nvml.nvmlDeviceGetHandleByPciBusId_v2(address, ctypes.byref(handle)) != 0:
        return lambda: None

    def read() -> int | None:
        return memory[2] if nvml.nvmlDeviceGetMemoryInfo(handle, memory) == 0 else None

    return read


def driver_release() -> str:
    """Of the kernel's module: "580.159.04"."""
    try:
        line = Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
    except (OSError, IndexError):
        return "unknown"
    return next((word for word in line.split() if word[:1].isdigit() and "." in word), "unknown")


def cublas_lt(major: str) -> str | None:
    """The file of cuBLASLt, where the loader does not find it by itself: the toolkit's or a PyPI package's."""
    name = f"libcublasLt.so.{major}"
    try:
        ctypes.CDLL(name)
        return None
    except OSError:
        pass
    sites = [sysconfig.get_paths()["purelib"], *(path for path in sys.path if "-packages" in path)]
    found = [file for site in sites for file in sorted(Path(site).glob(f"nvidia/*/lib/{name}"))]
    found += sorted(Path("/usr/local").glob(f"cuda*/lib64/{name}"))
    return str(found[0]) if found else None
