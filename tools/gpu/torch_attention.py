"""Dense attention by cuDNN through PyTorch: prints the milliseconds of each HEADSxTOKENS given, as JSON.

python tools/gpu/torch_attention.py 24x119056
"""

import json
import statistics
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

ROUNDS = 3


def milliseconds(heads: int, tokens: int) -> float:
    """The median; query, key and value [1, heads, tokens, 128], bf16."""
    query, key, value = (
        torch.randn(1, heads, tokens, 128, device="cuda", dtype=torch.bfloat16) for _ in range(3)
    )
    times = []
    with torch.inference_mode(), sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        for _ in range(1 + ROUNDS):  # the first chooses a kernel
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            torch.nn.functional.scaled_dot_product_attention(query, key, value)
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end))
    return statistics.median(times[1:])


def main() -> None:
    shapes = [tuple(map(int, shape.split("x"))) for shape in sys.argv[1:]]
    print(
        json.dumps({"torch": torch.__version__, "milliseconds": [milliseconds(*shape) for shape in shapes]})
    )


if __name__ == "__main__":
    main()
