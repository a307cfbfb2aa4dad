// Entry of the query and key preparation: checks, then the device's implementation.
#include "ops/rotary.h"

#include "base/check.h"
#include "ops/check_tensor.h"
#include "ops/dispatch.h"

namespace tamias {
namespace {

constexpr std::string_view kName = "rms norm rotary";

void CheckAngles(const Context& context, const ConstTensorView& input,
                 const ConstTensorView& cosine, const ConstTensorView& sine) {
  if (cosine.empty() && sine.empty()) return;
  if (input.dim(3) % 2 != 0) {
    Fail(ErrorCode::kInvalidArgument, "{}: input: expected an even head dimension, found {}", kName,
         input.dim(3));
  }
  const Shape shared = {input.dim(2), input.dim(3)};
  const Shape per_head = {input.dim(1), input.dim(2), input.dim(3)};
  const Shape& angles = cosine.rank() == 3 ? per_head : shared;
  CheckActivationRows(context, kName, "cosine", cosine, angles);
  CheckTensor(context, kName, "sine", sine, cosine.dtype(), angles);
  CheckUnitStride(kName, "sine", sine);
}

}  // namespace

void RmsNormRotary(Context& context, ConstTensorView input, ConstTensorView norm_weight,
                   float epsilon, ConstTensorView cosine, ConstTensorView sine, TensorView output) {
  CheckActivationRows(context, kName, "input", input, {-1, -1, -1, -1});
  CheckActivationRows(context, kName, "output", output, input.shape());
  CheckOptionalWeight(context, kName, "norm_weight", norm_weight, input.dim(3));
  CheckAngles(context, input, cosine, sine);
  DispatchWithCpuScratch(
      context,
      [&] { cpu::RmsNormRotary(context, input, norm_weight, epsilon, cosine, sine, output); },
      [&](cuda::Stream& stream) {
        cuda::RmsNormRotary(stream, input, norm_weight, epsilon, cosine, sine, output);
      });
}

}  // namespace tamias
