// The MLP of a block whose deltas may be sparse: its weights and, once prepared, the second matrix
// on its side, for kernels that gather its columns; where weights are streamed or of 8 bits that is
// made at each turn. d model width, F neurons.
#pragma once

#include <cstddef>

#include "models/linear_layer.h"
#include "tamias/context.h"
#include "tamias/ops/column_sparse_mlp.h"
#include "tamias/sparsity/sparse_invocation.h"
#include "tamias/tensor.h"

namespace tamias {

class SparseMlpLayer {
 public:
  SparseMlpLayer() = default;
  explicit SparseMlpLayer(const MlpWeights& weights) : weights_(weights) {}
  // act(fc1(x)) through fc2, not gated.
  SparseMlpLayer(const LinearLayer& fc1, const LinearLayer& fc2, Activation activation);

  // Makes [F, d] of fc2 [d, F] on the context's device, in the type of its activations. Called
  // before the first sparse step.
  void PrepareForSparsity(Context& context);
  // Lets go what that made; no layer that reads it may run.
  void DropPrepared() { fc2_transposed_ = Tensor(); }
  // Bytes that PrepareForSparsity holds there; 0 where the placement keeps none.
  size_t PreparedBytes(const Placement& placement) const;

  // The MLP of layer `layer`, as SparseInvocation::Mlp. What PrepareForSparsity made is read by
  // layers that need it alone: others may run while it is made.
  void operator()(Context& context, int layer, SparseInvocation& invocation, ConstTensorView input,
                  TensorView output) const;

 private:
  // [F, d]: prepared, or made now in the caller's workspace scope; when planning without memory.
  ConstTensorView Transposed(Context& context) const;

  MlpWeights weights_;  // without fc2_weight_transposed
  Tensor fc2_transposed_;
};

}  // namespace tamias
