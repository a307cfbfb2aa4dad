// Entry of the attention for encoders: checks, then the device's implementation.
#include "ops/biased_attention.h"

#include <string_view>

#include "base/check.h"
#include "ops/check_tensor.h"
#include "ops/dispatch.h"

namespace tamias {
namespace {

constexpr std::string_view kName = "biased attention";

void CheckHeads(const Context& context, std::string_view argument, const ConstTensorView& view,
                DType dtype, const Shape& shape) {
  CheckTensor(context, kName, argument, view, dtype, shape);
  CheckUnitStride(kName, argument, view);
}

void CheckBias(const Context& context, const ConstTensorView& bias, int64_t heads, int64_t queries,
               int64_t keys) {
  if (bias.empty()) return;
  CheckActivationRows(context, kName, "bias", bias, {-1, queries, keys});
  if (bias.dim(0) != 1 && bias.dim(0) != heads) {
    Fail(ErrorCode::kInvalidArgument, "{}: bias: expected 1 or {} heads, found {}", kName, heads,
         bias.dim(0));
  }
}

void CheckArguments(const Context& context, const BiasedAttentionInputs& inputs,
                    const TensorView& output) {
  const ConstTensorView& query = inputs.query;
  CheckActivationRows(context, kName, "query", query, {-1, -1, -1, -1});
  CheckHeads(context, "key", inputs.key, query.dtype(),
             {query.dim(0), query.dim(1), -1, query.dim(3)});
  CheckHeads(context, "value", inputs.value, query.dtype(), inputs.key.shape());
  CheckActivationRows(context, kName, "output", output, query.shape());
  const int64_t queries = query.dim(2), keys = inputs.key.dim(2);
  CheckBias(context, inputs.bias, query.dim(1), queries, keys);
  if (keys == 0 && query.NumElements() > 0) {
    Fail(ErrorCode::kInvalidArgument, "{}: key: expected at least 1 key, found 0", kName);
  }
  if (inputs.causal && keys != queries) {
    Fail(ErrorCode::kInvalidArgument,
         "{}: key: expected as many keys as queries ({}) under a causal mask, found {}", kName,
         queries, keys);
  }
}

}  // namespace

void BiasedAttention(Context& context, const BiasedAttentionInputs& inputs, TensorView output) {
  CheckArguments(context, inputs, output);
  Workspace::Scope scope(context.workspace());
  TensorView scratch;
  if (context.IsOnGpu()) {
    scratch = context.workspace().AllocateBytes(cuda::BiasedAttentionScratchBytes(
        output.dim(0) * output.dim(1), output.dim(2), inputs.key.dim(2)));
  }
  DispatchWithCpuScratch(
      context, [&] { cpu::BiasedAttention(context, inputs, output); },
      [&](cuda::Stream& stream) { cuda::BiasedAttention(stream, inputs, scratch, output); });
}

}  // namespace tamias
