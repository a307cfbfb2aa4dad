// The block of Mochi 1 (diffusers' MochiTransformerBlock): asymmetric double stream. Text and video
// have their own widths, norms, projections and gated feed-forwards and meet in joint attention,
// text tokens first. Both streams are worked on in place; what a block adds last is left to the
// first norm of the next. Symbols: B batch, L valid text tokens
// (may be 0), N video tokens, S = L + N, H heads, D head dimension, d = H D video width, e text
// width, F = 8 d / 3 and E = 8 e / 3 MLP widths.
#pragma once

#include <cstdint>

#include "models/linear_layer.h"
#include "models/sparse_mlp_layer.h"
#include "models/transformers/head_projections.h"
#include "models/transformers/residual_stream.h"
#include "tamias/context.h"
#include "tamias/ops/column_sparse_mlp.h"
#include "tamias/sparsity/sparse_invocation.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

// Neurons of the gated feed-forward of a stream: two thirds of four times its width.
inline int64_t MochiMlpDim(int64_t width) { return 8 * width / 3; }

struct MochiBlockShape {
  int64_t num_heads = 0;
  int64_t head_dim = 0;
  int64_t text_dim = 0;      // e
  bool updates_text = true;  // false in the last block, after which nobody reads the text
  int64_t model_dim() const { return num_heads * head_dim; }
};

// What all blocks of one forward pass share.
struct MochiBlockInputs {
  ConstTensorView silu_conditioning;  // [B, d]: silu of the time and pooled text embedding
  ConstTensorView rotary_cos;         // [H, N, D], video tokens only
  ConstTensorView rotary_sin;         // [H, N, D]
};

// How the blocks norm their streams, and what they add to them.
inline constexpr ResidualNormOptions kMochiNorm = {
    .norm = NormKind::kRms, .epsilon = 1e-6f, .is_modulation = true, .norms_branch = true};

// The residual streams on their way through the blocks, in the workspace of who makes it.
class MochiResidual {
 public:
  // text [B, L, e], video [B, N, d].
  MochiResidual(Context& context, TensorView text, TensorView video);

  ResidualStream text, video;
  // For what is left to the next block, and free while nothing is.
  TensorView attended;     // [B, S, d]: the video's, behind the attention of the text
  TensorView text_branch;  // [B, L, e]
  // Memory for the modulation, [B, 4 e] and [B, 4 d]: not that of the block before, whose gates may
  // still be waiting.
  struct Vectors {
    TensorView text, video;
  };
  const Vectors& NextVectors() { return vectors_[turn_ ^= 1]; }

 private:
  Vectors vectors_[2];
  int turn_ = 0;
};

class MochiBlock {
 public:
  MochiBlock(const MochiBlockShape& shape, const Weights& weights);

  // `layer` is the block's number, as `invocation` counts.
  void Forward(Context& context, const MochiBlockInputs& inputs, int layer,
               SparseInvocation& invocation, MochiResidual& residual) const;
  // What step caching compares from step to step: the normed and scaled input of the video stream.
  // video, modulated [B, N, d].
  void ModulateVideo(Context& context, const MochiBlockInputs& inputs, ConstTensorView video,
                     TensorView modulated) const;

  SparseMlpLayer& video_mlp() { return video_mlp_; }
  const SparseMlpLayer& video_mlp() const { return video_mlp_; }

 private:
  struct Stream {
    LinearLayer modulation;  // [4 d, d] or [4 e, d]; text of the last block: [e, d]
    HeadLayers qkv;          // [d, d] or [d, e] each
    LinearLayer out;         // [d, d] or [e, d]; none for text of the last block
    MlpWeights mlp;          // likewise
  };
  struct Names;
  static Stream LoadStream(const MochiBlockShape& shape, const Weights& weights, const Names& names,
                           int64_t width, bool is_updated);
  // Joint attention of normed and scaled text and video into attended [B, S, d].
  void ProjectAndAttend(Context& context, const MochiBlockInputs& inputs, int layer,
                        SparseInvocation& invocation, ConstTensorView text, ConstTensorView video,
                        TensorView attended) const;

  MochiBlockShape shape_;
  Stream text_;
  Stream video_;
  SparseMlpLayer video_mlp_;  // video_.mlp
};

}  // namespace tamias
