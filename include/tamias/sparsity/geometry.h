// What a generation looks like to the sparsity layer: the sizes of the model and of its token
// sequence, and what of both is one GPU's where several compute a model call. Symbols: B batch,
// L text tokens, N image (or video) tokens, H heads, D head dimension, d model width, F MLP width,
// R ranks.
#pragma once

#include <cstddef>
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

// Tokens [begin, end) of a sequence.
struct TokenRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const TokenRange&) const = default;
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

  // Of a model call that R GPUs compute together (DeepSpeed-Ulysses, arXiv 2309.14509): in
  // attention each has all tokens of H / R heads, outside it tokens of its own with all heads. The
  // first rank has the text before its image tokens.
  int rank = 0;
  // [R + 1]: rank r has image tokens [bounds[r], bounds[r + 1]).
  std::vector<int64_t> rank_bounds = {};

  int64_t image_tokens() const { return grid.size(); }
  int64_t joint_tokens() const { return text_tokens + grid.size(); }
  int num_ranks() const {
    return rank_bounds.empty() ? 1 : static_cast<int>(rank_bounds.size()) - 1;
  }
  int64_t heads_of_rank() const { return num_heads / num_ranks(); }
  int64_t first_head() const { return rank * heads_of_rank(); }
  bool has_text() const { return rank == 0; }
  // Of `tokens` rows, the image and what comes before it: those of rank r.
  TokenRange RowsOfRank(int r, int64_t tokens) const {
    if (rank_bounds.empty()) return {0, tokens};
    const auto i = static_cast<size_t>(r);
    const int64_t before = tokens - image_tokens();
    return {r == 0 ? 0 : before + rank_bounds[i], before + rank_bounds[i + 1]};
  }
  TokenRange OwnRows(int64_t tokens) const { return RowsOfRank(rank, tokens); }
  TokenRange own_image() const { return OwnRows(image_tokens()); }

  bool operator==(const SparseGeometry&) const = default;
};

}  // namespace tamias
