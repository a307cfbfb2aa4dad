// What a generation looks like to the sparsity layer: the sizes of the model and of its token
// sequence. Symbols: B batch, L text tokens, N image (or video) tokens, H heads, D head dimension,
// d model width, F MLP width.
#pragma once

#include <cstdint>
#include <vector>

namespace tamias {

// Image tokens form a grid; pictures have time = 1.
struct TokenGrid {
  int64_t time = 1;
  int64_t height = 0;
  int64_t width = 0;
  int64_t size() const { return time * height * width; }
  bool operator==(const TokenGrid&) const = default;
};

struct SparseGeometry {
  int64_t batch = 1;        // B
  int64_t text_tokens = 0;  // L; they come first in the joint attention
  TokenGrid grid;           // N = grid.size()
  int64_t num_layers = 0;
  int64_t num_heads = 0;  // H
  int64_t head_dim = 0;   // D
  int64_t model_dim = 0;  // d
  int64_t mlp_dim = 0;    // F
  bool gated_mlp = false;
  // Rows of each layer's MLP per batch item: N, or L + N; 0: the layer has no MLP to speed up.
  std::vector<int64_t> mlp_tokens;
  int64_t prediction_channels = 0;  // C of the model's output [B, N, C]

  int64_t image_tokens() const { return grid.size(); }
  int64_t joint_tokens() const { return text_tokens + grid.size(); }
  bool operator==(const SparseGeometry&) const = default;
};

}  // namespace tamias
