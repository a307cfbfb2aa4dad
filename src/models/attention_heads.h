// The two ways to look at one buffer: tokens by width, [B, N, H D], and by heads, [B, H, N, D].
#pragma once

#include "tamias/tensor.h"

namespace tamias {

// [B, N, H D], any strides with last stride 1 -> [B, H, N, D], a strided view.
inline TensorView SplitHeads(TensorView tokens, int64_t num_heads) {
  return tokens.SplitAxis(2, num_heads, tokens.dim(2) / num_heads).Permute({0, 2, 1, 3});
}

}  // namespace tamias
