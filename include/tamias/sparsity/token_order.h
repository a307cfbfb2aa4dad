// The order of image tokens in memory. Rows of a query group share their key columns, so tokens
// near each other in the picture should lie near each other in memory (Chipmunk, arXiv 2506.03275).
// Any order is correct; only the quality of the selection depends on it.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "tamias/context.h"
#include "tamias/sparsity/config.h"
#include "tamias/sparsity/geometry.h"
#include "tamias/tensor.h"

namespace tamias {

class TokenOrder {
 public:
  TokenOrder() = default;
  // tokens[i] is the row-order index (t, h, w) of the token at position i: a permutation.
  explicit TokenOrder(std::vector<int32_t> tokens);

  static TokenOrder RowOrder(int64_t size);
  // Square patches of `outer` tokens a side in row order, inside each patches of `inner`, inside
  // those row order. Patches cut off by the edge follow the whole ones: right edge, then bottom.
  static TokenOrder Patches(const TokenGrid& grid, int64_t outer, int64_t inner);
  // Voxels of (time, height, width) tokens; what does not fill one follows: the time tail, the
  // height tail, the width tail.
  static TokenOrder Voxels(const TokenGrid& grid, std::array<int64_t, 3> voxel = {4, 6, 8});

  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }
  std::span<const int32_t> tokens() const { return tokens_; }        // position -> row-order index
  std::span<const int32_t> positions() const { return positions_; }  // row-order index -> position

  // output[b, i, :] = input[b, tokens[i], :]. [B, N, C] f32 in memory of the host, last stride 1;
  // no overlap.
  void Apply(Context& context, ConstTensorView input, TensorView output) const;
  // output[b, tokens[i], :] = input[b, i, :].
  void Invert(Context& context, ConstTensorView input, TensorView output) const;

 private:
  std::vector<int32_t> tokens_;
  std::vector<int32_t> positions_;
};

// The order a configuration asks for: patches for pictures, voxels for video, row order when
// patchify is disabled.
TokenOrder MakeTokenOrder(const SparsityConfig::Patchify& patches, const TokenGrid& grid);

}  // namespace tamias
