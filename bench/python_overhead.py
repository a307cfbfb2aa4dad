#!/usr/bin/env python3
"""What a call from Python costs beside the operation: attention on arrays so small that the arithmetic vanishes, and
on larger ones beside PyTorch's own, in turn.

    python bench/python_overhead.py        # needs the built package and torch
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1] / "build/release/python"))
from tamias import ops  # noqa: E402


def seconds(call, repeats: int) -> float:
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - begin) / repeats


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="medians of this many")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    context = ops.Context(threads=arguments.threads)
    print(f"{arguments.threads} threads, medians of {arguments.rounds}, microseconds a call\n")
    print("| q, k, v | tamias.ops | PyTorch | PyTorch / tamias.ops |\n| --- | ---: | ---: | ---: |")
    for tokens, repeats in ((1, 2000), (64, 500), (1024, 8)):
        q, k, v = (torch.randn(1, 4, tokens, 64) for _ in range(3))
        calls = {
            "tamias": lambda: ops.dense_attention(q, k, v, context=context),
            "torch": lambda: F.scaled_dot_product_attention(q, k, v),
        }
        rounds = {name: [] for name in calls}
        with torch.inference_mode():
            for _ in range(arguments.rounds):
                for name, call in calls.items():
                    rounds[name].append(1e6 * seconds(call, repeats))
        ours, peer = (statistics.median(rounds[name]) for name in ("tamias", "torch"))
        print(f"| [1, 4, {tokens}, 64] | {ours:.1f} | {peer:.1f} | {peer / ours:.2f} |")


if __name__ == "__main__":
    main()
