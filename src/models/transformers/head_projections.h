// Query, key and value of a layer's self-attention, from the tokens of one or two streams that meet
// in it: projected, normed, turned by their positions, and with the tokens of a head side by side,
// as attention reads them fastest. Symbols: B batch, S tokens of all streams, H heads, D head
// dimension, d = H D.
#pragma once

#include <cstdint>
#include <span>

#include "models/linear_layer.h"
#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// The projections of a stream, [d, width] each, and the RMS norms of query and key.
struct HeadLayers {
  LinearLayer query, key, value;
  ConstTensorView query_norm, key_norm;  // [D], or [d] with norms_all_heads
  bool norms_all_heads = false;          // one norm over the heads of a token, not one for each
};

struct HeadStream {
  const HeadLayers& layers;
  ConstTensorView tokens;  // [B, n, width]
  int64_t begin = 0;       // of them among the S
};

// The angles of the tokens from `first` on; those before have no place and are not turned.
struct HeadPositions {
  ConstTensorView cos, sin;  // [S - first, D], or [H, S - first, D]
  int64_t first = 0;
};

// In the type of the activations.
struct Heads {
  TensorView query, key, value;  // [B, H, S, D], contiguous
};

// The streams together are all S tokens. scratch [B, S, d], contiguous, in the type of the
// activations.
void ProjectHeads(Context& context, std::span<const HeadStream> streams,
                  const HeadPositions& positions, float epsilon, TensorView scratch,
                  const Heads& heads);

}  // namespace tamias
