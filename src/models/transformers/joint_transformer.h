// What FLUX.1 and HunyuanVideo have in common, from embedded tokens to the predicted velocity:
// double-stream blocks, where text and image have their own weights and meet in joint attention,
// then single-stream blocks over both, then an adaptive layer norm and the last projection of the
// image tokens. An image is a picture or a film. Symbols: B batch, L text tokens, N image tokens,
// S = L + N, H heads, D head dimension, d = H D model width, F MLP width, C output channels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "models/linear_layer.h"
#include "models/transformers/joint_blocks.h"
#include "tamias/context.h"
#include "tamias/sparsity/geometry.h"
#include "tamias/sparsity/sparse_invocation.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

struct JointTransformerShape {
  JointBlockShape block;
  int64_t num_layers = 0;         // double-stream blocks
  int64_t num_single_layers = 0;  // single-stream blocks; there is at least one block
  int64_t out_channels = 0;       // C
  int64_t total_layers() const { return num_layers + num_single_layers; }
};

class JointTransformer {
 public:
  // Reads "transformer_blocks", "single_transformer_blocks", "norm_out" and "proj_out". Throws when
  // a tensor is missing or has another shape.
  JointTransformer(const JointTransformerShape& shape, const Weights& weights);

  // Prepares what sparse MLP steps read: the second MLP matrix of every block transposed to [F, d],
  // in the type of the activations. Called before a Forward with a sparse MLP.
  void PrepareForSparsity(Context& context);
  // Lets go what that made.
  void DropPrepared();
  // Bytes PrepareForSparsity holds (or would hold).
  size_t SparsityWeightBytes(const Placement& placement) const;

  // The blocks that may be streamed (Weights::CopyToDevice): all but the first, whose modulation is
  // asked for before it runs.
  std::vector<std::string> BlockPaths() const;

  // Weights, inputs and results lie on the context's device.
  // hidden [B, S, d] f32: the embedded tokens, text first, whatever they are on a skipped step;
  // overwritten. prediction [B, N, C] f32.
  // Layers are numbered for `invocation` from 0: double-stream blocks first, then single-stream
  // ones.
  void Forward(Context& context, const JointBlockInputs& inputs, SparseInvocation& invocation,
               TensorView hidden, TensorView prediction) const;

  // What this model looks like to the sparsity layer.
  SparseGeometry Geometry(int64_t batch, int64_t text_tokens, const TokenGrid& grid) const;

 private:
  void ProjectOut(Context& context, const JointBlockInputs& inputs, ConstTensorView image,
                  TensorView prediction) const;

  JointTransformerShape shape_;
  Weights weights_;
  std::vector<JointDoubleBlock> double_blocks_;
  std::vector<JointSingleBlock> single_blocks_;
  LinearLayer norm_out_;
  LinearLayer proj_out_;
};

}  // namespace tamias
