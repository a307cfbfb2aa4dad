"""Tamias: diffusion transformers several times faster without training, on any CPU and NVIDIA GPU.

    import tamias

    pipeline = tamias.Pipeline("models/demo-flux")
    result = pipeline.generate("a large red circle at the center on a grey background", steps=20)
    tamias.write_image("circle.png", result.images[0])

Two ways to use it: `Pipeline` is the whole engine, and `accelerate` speeds up a pipeline of diffusers in place.
Below them lie `ops` (the operations on arrays of NumPy, PyTorch and others), `DeltaAttention` and `DeltaMlp`
(single layers of a loop of your own) and `SparseSession` (the state of a whole transformer).

Errors are `tamias.Error` and its subclasses; each is also the built-in class for such a fault
(`InvalidArgumentError` is a `ValueError`), and its message is one line.
"""

from tamias import ops
from tamias._tamias import (
    CancelledError,
    DeviceError,
    Error,
    InternalError,
    InvalidArgumentError,
    InvalidFileError,
    IoError,
    NotFoundError,
    OutOfMemoryError,
    SparsityConfig,
    UnsupportedError,
    __version__,
    machine_name,
    profiles,
)
from tamias.diffusers import accelerate, restore
from tamias.media import encode_image, psnr, read_image, ssim, write_image, write_video
from tamias.pipeline import (
    Comparison,
    Generation,
    Lora,
    Pipeline,
    Progress,
    Result,
    Step,
    TuneResult,
    TuneTrial,
    Video,
)
from tamias.sparsity import DeltaAttention, DeltaMlp, MlpWeights, SparseSession

# People meet these under the package's name, in tracebacks, too.
for _error in (
    CancelledError, DeviceError, Error, InternalError, InvalidArgumentError, InvalidFileError, IoError, NotFoundError,
    OutOfMemoryError, UnsupportedError,
):  # fmt: skip
    _error.__module__ = __name__
del _error

__all__ = [
    "CancelledError",
    "Comparison",
    "DeltaAttention",
    "DeltaMlp",
    "DeviceError",
    "Error",
    "Generation",
    "InternalError",
    "InvalidArgumentError",
    "InvalidFileError",
    "IoError",
    "Lora",
    "MlpWeights",
    "NotFoundError",
    "OutOfMemoryError",
    "Pipeline",
    "Progress",
    "Result",
    "SparseSession",
    "SparsityConfig",
    "Step",
    "TuneResult",
    "TuneTrial",
    "UnsupportedError",
    "Video",
    "__version__",
    "accelerate",
    "encode_image",
    "machine_name",
    "ops",
    "profiles",
    "psnr",
    "read_image",
    "restore",
    "ssim",
    "write_image",
    "write_video",
]
