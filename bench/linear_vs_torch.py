#!/usr/bin/env python3
"""Compares our bf16 dense layers with PyTorch's, both on all cores.

Runs linear_bench and PyTorch in turn, several rounds, and prints the medians and their ratio as a
Markdown table. Needs PyTorch; not part of the tests.

    bench/linear_vs_torch.py --build build/release [--rounds 5] [--threads 2]
"""

import argparse
import os
import statistics

import torch
from torch_peer import our_results, torch_seconds

# rows, inputs, outputs, whether a GELU follows: cases of linear_bench.
SHAPES = [(4132, 256, 256, 0), (4132, 256, 1024, 1), (4132, 1024, 256, 0), (4096, 768, 3072, 1),
          (4352, 3072, 3072, 0)]


def shape_name(shape):
    return "M:%d/K:%d/N:%d/gelu:%d" % shape


def ours(build, threads):
    """GFLOP/s by shape."""
    shape = r"M:\d+/K:\d+/N:\d+/gelu:\d"
    entries = our_results(build, "linear_bench", "BM_LinearBFloat16", shape, threads, seconds=0.3)
    return {name: entry["gflops"] for name, entry in entries.items()}


def torch_gflops(shape, threads):
    """Of PyTorch."""
    rows, inputs, outputs, gelu = shape
    layer = torch.nn.Linear(inputs, outputs).to(torch.bfloat16)
    data = torch.randn(rows, inputs).to(torch.bfloat16)

    def run():
        result = layer(data)
        return torch.nn.functional.gelu(result, approximate="tanh") if gelu else result

    return 2e-9 * rows * inputs * outputs / torch_seconds(run, threads)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()

    rates = {shape: ([], []) for shape in SHAPES}
    for _ in range(arguments.rounds):
        results = ours(arguments.build, arguments.threads)
        for shape in SHAPES:
            rates[shape][0].append(results[shape_name(shape)])
            rates[shape][1].append(torch_gflops(shape, arguments.threads))
    print(f"| shape | GFLOP/s | PyTorch {torch.__version__} | ratio |")
    print("| --- | --- | --- | --- |")
    for shape, (mine, theirs) in rates.items():
        ratio = statistics.median(a / b for a, b in zip(mine, theirs))
        print(f"| {shape_name(shape)} | {statistics.median(mine):.0f} | "
              f"{statistics.median(theirs):.0f} | {ratio:.2f}x |")


if __name__ == "__main__":
    main()
