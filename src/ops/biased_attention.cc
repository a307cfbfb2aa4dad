// Entry of the attention for encoders: checks, then the device's implementation.
#include "ops/biased_attention.h"

#include <string_view>

#include "ops/check_tensor.h"

namespace tamias {
namespace {

void CheckHeads(std::string_view argument, const ConstTensorView& view, const Shape& shape) {
  CheckTensor("biased attention", argument, view, DType::kF32, shape);
  CheckUnitStride("biased attention", argument, view);
}

}  // namespace

void BiasedAttention(Context& context, const BiasedAttentionInputs& inputs, TensorView output) {
  if (context.IsOnGpu()) {
    Workspace::Scope scope(context.workspace());
    const size_t bytes = BiasedAttentionGpuWorkspaceBytes({.heads = output.dim(0) * output.dim(1),
                                                           .queries = output.dim(2),
                                                           .keys = inputs.key.dim(2),
                                                           .head_dim = output.dim(3)});
    return cuda::BiasedAttention(context.stream(), inputs, context.workspace().AllocateBytes(bytes),
                                 output);
  }
  const ConstTensorView& query = inputs.query;
  CheckHeads("query", query, {-1, -1, -1, -1});
  CheckHeads("key", inputs.key, {query.dim(0), query.dim(1), -1, query.dim(3)});
  CheckHeads("value", inputs.value, inputs.key.shape());
  CheckHeads("output", output, query.shape());
  const int64_t keys = inputs.key.dim(2);
  if (!inputs.bias.empty()) {
    CheckHeads("bias", inputs.bias, {-1, query.dim(2), keys});
    if (inputs.bias.dim(0) != 1 && inputs.bias.dim(0) != query.dim(1)) {
      Fail(ErrorCode::kInvalidArgument, "biased attention: bias: expected 1 or {} heads, found {}",
           query.dim(1), inputs.bias.dim(0));
    }
  }
  if (keys == 0 && query.NumElements() > 0) {
    Fail(ErrorCode::kInvalidArgument, "biased attention: key: expected at least 1 key, found 0");
  }
  if (inputs.causal && keys != query.dim(2)) {
    Fail(ErrorCode::kInvalidArgument,
         "biased attention: key: expected as many keys as queries ({}) under a causal mask, found "
         "{}",
         query.dim(2), keys);
  }
  cpu::BiasedAttention(context, inputs, output);
}

size_t BiasedAttentionWorkspaceBytes(const Context& context, const BiasedAttentionSize& size) {
  if (context.IsOnGpu()) return BiasedAttentionGpuWorkspaceBytes(size);
  return cpu::BiasedAttentionWorkspaceBytes(context, size.queries, size.keys, size.head_dim);
}

size_t BiasedAttentionGpuWorkspaceBytes(const BiasedAttentionSize& size) {
  return cuda::BiasedAttentionScratchBytes(size.heads, size.queries, size.keys);
}

}  // namespace tamias
