// The two kinds of block of FLUX.1 and HunyuanVideo, which name and compute them alike (diffusers'
// FluxTransformerBlock and HunyuanVideoTransformerBlock, and their single-stream kin). Both work in
// place on the joint residual stream hidden [B, S, d], text tokens first (S = L + N), so that
// neither joining nor splitting the streams copies anything; what a block adds last is left to the
// first norm of the next. Symbols as in joint_transformer.h; an image is a picture or a film. The
// residual stream, modulation vectors and rotary tables are f32, what lies between them has the
// type of the context's activations.
#pragma once

#include <cstdint>

#include "models/linear_layer.h"
#include "models/sparse_mlp_layer.h"
#include "models/transformers/head_projections.h"
#include "models/transformers/residual_stream.h"
#include "tamias/context.h"
#include "tamias/sparsity/sparse_invocation.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

struct JointBlockShape {
  int64_t num_heads = 0;
  int64_t head_dim = 0;
  int64_t mlp_dim = 0;  // F
  int64_t model_dim() const { return num_heads * head_dim; }
};

// What all blocks of one forward pass share.
struct JointBlockInputs {
  ConstTensorView silu_conditioning;  // [B, d]: silu of the time, guidance and text embedding
  ConstTensorView rotary_cos;         // [N, D]: text has no place and is not turned
  ConstTensorView rotary_sin;         // [N, D]
  int64_t text_tokens = 0;            // L; 0 where another GPU has the text
};

// The joint residual stream on its way through the blocks, in the workspace of who makes it.
class JointResidual {
 public:
  // hidden [B, S, d].
  JointResidual(Context& context, const JointBlockInputs& inputs, TensorView hidden);

  ResidualStream text, image;  // the tokens of each
  // [B, S, d]: for what is left to the next block, and free while nothing is.
  TensorView branch;
  // Memory for the modulation of text and image, [B, 6 d] each: not that of the block before, whose
  // gates may still be waiting.
  struct Vectors {
    TensorView text, image;
  };
  const Vectors& NextVectors() { return vectors_[turn_ ^= 1]; }

 private:
  Vectors vectors_[2];
  int turn_ = 0;
};

// Text and image each have their own modulation, projections and MLP; attention is joint.
class JointDoubleBlock {
 public:
  JointDoubleBlock(const JointBlockShape& shape, const Weights& weights);

  // `layer` is the block's number in the model, as `invocation` counts.
  void Forward(Context& context, const JointBlockInputs& inputs, int layer,
               SparseInvocation& invocation, JointResidual& residual) const;
  // What step caching compares from step to step: the layer-normed, shifted and scaled input of the
  // image stream. image, modulated [B, N, d].
  void ModulateImage(Context& context, const JointBlockInputs& inputs, ConstTensorView image,
                     TensorView modulated) const;

  SparseMlpLayer& image_mlp() { return image_mlp_; }
  const SparseMlpLayer& image_mlp() const { return image_mlp_; }

 private:
  struct Stream {
    LinearLayer modulation;  // [6 d, d]
    HeadLayers qkv;
    LinearLayer out;  // [d, d]
  };
  // Joint attention over modulated [B, S, d] into attended [B, S, d].
  void ProjectAndAttend(Context& context, const JointBlockInputs& inputs, int layer,
                        SparseInvocation& invocation, TensorView modulated,
                        TensorView attended) const;
  void TextMlp(Context& context, TensorView input, TensorView output) const;

  JointBlockShape shape_;
  Stream text_;
  Stream image_;
  LinearLayer text_fc1_, text_fc2_;  // [F, d], [d, F]
  SparseMlpLayer image_mlp_;
};

// Attention and MLP run side by side on one modulated input of all tokens.
class JointSingleBlock {
 public:
  JointSingleBlock(const JointBlockShape& shape, const Weights& weights);

  void Forward(Context& context, const JointBlockInputs& inputs, int layer,
               SparseInvocation& invocation, JointResidual& residual) const;
  void ModulateImage(Context& context, const JointBlockInputs& inputs, ConstTensorView image,
                     TensorView modulated) const;

  SparseMlpLayer& mlp() { return mlp_; }
  const SparseMlpLayer& mlp() const { return mlp_; }

 private:
  // query: [B, S, d] that may be overwritten.
  void ProjectAndAttend(Context& context, const JointBlockInputs& inputs, int layer,
                        SparseInvocation& invocation, TensorView modulated, TensorView query,
                        TensorView attended) const;

  JointBlockShape shape_;
  LinearLayer modulation_;  // [3 d, d]
  HeadLayers qkv_;
  LinearLayer attention_out_;  // [d, d]: the columns of proj_out [d, d + F] that take the attention
  SparseMlpLayer mlp_;         // its fc2 is the other columns, with the bias of both
};

}  // namespace tamias
