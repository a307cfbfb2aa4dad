#!/usr/bin/env python3
"""Compares our attention with PyTorch's scaled_dot_product_attention, both on all cores, in f32 or bf16.

Runs the Google Benchmark programs and PyTorch in turn, several rounds, and prints the medians and
their ratio as a Markdown table or as JSON. Needs PyTorch; not part of the tests.

    bench/attention_vs_torch.py --build build/release [--dtype bf16] [--rounds 5] [--threads 2] [--json]
"""

import argparse
import json
import os
import statistics

import torch
from torch_peer import our_results, torch_seconds

# heads, queries, keys, head dimension: the cases of attention_bench that are compared.
SHAPES = [(1, 7680, 7680, 128), (4, 4132, 4132, 64), (4, 36, 4132, 64), (1, 4352, 4352, 128)]


def shape_name(shape):
    return "H:%d/Nq:%d/Nk:%d/D:%d" % shape


DTYPES = {"f32": ("BM_DenseAttention", torch.float32),
          "bf16": ("BM_DenseAttentionBFloat16", torch.bfloat16)}


def ours(build, threads, dtype):
    """Seconds of one dense call and the FMA peak, by shape."""
    shape = r"H:\d+/Nq:\d+/Nk:\d+/D:\d+"
    return our_results(build, "attention_bench", DTYPES[dtype][0], shape, threads, seconds=0.5)


def attention_seconds(shape, threads, dtype):
    """Of PyTorch."""
    heads, queries, keys, head_dim = shape
    query = torch.randn(1, heads, queries, head_dim).to(DTYPES[dtype][1])
    key, value = torch.randn(2, 1, heads, keys, head_dim).to(DTYPES[dtype][1])
    attention = torch.nn.functional.scaled_dot_product_attention
    return torch_seconds(lambda: attention(query, key, value), threads)


def matmul_gflops(threads, dtype):
    """PyTorch's 3072 x 3072 x 3072 matrix product: what a tuned library reaches here."""
    a, b = torch.randn(2, 3072, 3072).to(DTYPES[dtype][1])
    return 2e-9 * 3072**3 / torch_seconds(lambda: torch.mm(a, b), threads)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--dtype", choices=list(DTYPES), default="f32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    rates = {shape: ([], [], []) for shape in SHAPES}  # ours, torch, peak
    matmul = []
    for _ in range(arguments.rounds):
        matmul.append(matmul_gflops(arguments.threads, arguments.dtype))
        results = ours(arguments.build, arguments.threads, arguments.dtype)
        for shape in SHAPES:
            heads, queries, keys, head_dim = shape
            gflop = 4e-9 * heads * queries * keys * head_dim
            rates[shape][0].append(results[shape_name(shape)]["gflops"])
            rates[shape][1].append(gflop / attention_seconds(shape, arguments.threads, arguments.dtype))
            rates[shape][2].append(results[shape_name(shape)]["peak"])
    rows = []
    for shape, (mine, theirs, peak) in rates.items():
        rows.append({
            "shape": shape_name(shape),
            "gflops": statistics.median(mine),
            "torch_gflops": statistics.median(theirs),
            "speedup_over_torch": statistics.median(a / b for a, b in zip(mine, theirs)),
            "peak_fraction": statistics.median(a / b for a, b in zip(mine, peak)),
        })
    if arguments.json:
        report = {"torch": torch.__version__, "matmul_gflops": statistics.median(matmul)}
        print(json.dumps(report | {"results": rows}, indent=2))
        return
    print(f"PyTorch's {arguments.dtype} matrix product: {statistics.median(matmul):.0f} GFLOP/s\n")
    print(f"| shape | GFLOP/s | share of FMA peak | PyTorch {torch.__version__} | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        print("| {shape} | {gflops:.0f} | {peak_fraction:.0%} | {torch_gflops:.0f} | "
              "{speedup_over_torch:.2f}x |".format(**row))


if __name__ == "__main__":
    main()
