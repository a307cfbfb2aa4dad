// The MLP of a block whose deltas may be sparse: see the header.
#include "models/sparse_mlp_layer.h"

#include "ops/transpose.h"
#include "tamias/device_memory.h"

namespace tamias {

SparseMlpLayer::SparseMlpLayer(const LinearLayer& fc1, const LinearLayer& fc2,
                               Activation activation) {
  weights_.fc1_weight = fc1.weight;
  weights_.fc1_bias = fc1.bias;
  weights_.fc2_weight = fc2.weight;
  weights_.fc2_bias = fc2.bias;
  weights_.activation = activation;
}

void SparseMlpLayer::PrepareForSparsity(Context& context) {
  const ConstTensorView& fc2 = weights_.fc2_weight;
  fc2_transposed_ = TensorOn(context, {fc2.dim(1), fc2.dim(0)}, context.activation_dtype());
  Transpose(context, fc2, fc2_transposed_);
}

ConstTensorView SparseMlpLayer::Transposed(Context& context) const {
  const ConstTensorView& fc2 = weights_.fc2_weight;
  const Shape shape = {fc2.dim(1), fc2.dim(0)};
  if (!context.placement().KeepsPreparedWeights()) {
    const TensorView transposed = context.workspace().Allocate(shape, context.activation_dtype());
    Transpose(context, fc2, transposed);
    return transposed;
  }
  if (!context.IsPlanning()) return fc2_transposed_.view();
  return TensorView::WithoutMemory(shape, context.activation_dtype(), context.device());
}

void SparseMlpLayer::operator()(Context& context, int layer, SparseInvocation& invocation,
                                ConstTensorView input, TensorView output) const {
  Workspace::Scope scope(context.workspace());
  MlpWeights weights = weights_;
  if (invocation.HasSparseMlp(layer)) weights.fc2_weight_transposed = Transposed(context);
  invocation.Mlp(context, layer, weights, input, output);
}

size_t SparseMlpLayer::PreparedBytes(const Placement& placement) const {
  if (!placement.KeepsPreparedWeights()) return 0;
  return static_cast<size_t>(weights_.fc2_weight.NumElements()) *
         SizeOf(placement.activation_dtype);
}

}  // namespace tamias
