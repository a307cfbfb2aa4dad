#!/usr/bin/env python3
"""Attention to chosen columns on tensors of PyTorch, on the CPU or on a GPU: the columns that draw most attention
from each group of 192 queries, attention to these alone, and how far that is from PyTorch's own over all of them.

    python examples/sparse_attention.py                  # float32 on the CPU
    python examples/sparse_attention.py --device cuda    # bfloat16, in PyTorch's current stream
"""

import argparse

import torch
from tamias import ops
from torch.nn.functional import scaled_dot_product_attention

GROUP = 192  # queries that share their columns


def make_inputs(tokens: int, device: str) -> list[torch.Tensor]:
    """query, key, value [1, 8, tokens, 128]; one key of sixteen is looked at by everybody."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 8, tokens, 128, generator=generator) for _ in range(3))
    query, key[:, :, ::16] = query + 0.7, key[:, :, ::16] + 0.7
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    return [tensor.to(device, dtype) for tensor in (query, key, value)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tokens", type=int, default=3072)
    parser.add_argument("--share", type=float, default=0.1, help="of the columns")
    arguments = parser.parse_args()
    query, key, value = make_inputs(arguments.tokens, arguments.device)
    _, heads, tokens, _ = query.shape
    groups, kept = -(-tokens // GROUP), max(1, round(arguments.share * tokens))

    _, lse = ops.dense_attention(query, key, value, with_log_sum_exp=True)
    _, _, sums = ops.dense_attention_column_sums(query, key, value, lse, group_size=GROUP)
    mask = ops.top_k_mask(sums.reshape(-1, tokens), kept)
    indices, counts = ops.mask_to_indices(mask, tokens, capacity=kept)
    sparse = ops.column_sparse_attention(
        query, key, value, indices.reshape(1, heads, groups, kept), counts.reshape(1, heads, groups), group_size=GROUP
    )

    dense = scaled_dot_product_attention(query, key, value)
    error = (sparse.float() - dense.float()).norm() / dense.float().norm()
    print(f"{kept} of {tokens} columns on {query.device}: relative error {error:.3f}")


if __name__ == "__main__":
    main()
