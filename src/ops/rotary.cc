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

void Check(const Context& context, const HeadRows& part) {
  CheckActivationRows(context, kName, "input", part.input, {-1, -1, -1, -1});
  CheckActivationRows(context, kName, "output", part.output, part.input.shape());
  CheckOptionalWeight(context, kName, "norm_weight", part.norm_weight, part.input.dim(3));
  CheckAngles(context, part.input, part.cosine, part.sine);
}

}  // namespace

void RmsNormRotary(Context& context, ConstTensorView input, ConstTensorView norm_weight,
                   float epsilon, ConstTensorView cosine, ConstTensorView sine, TensorView output) {
  const HeadRows part{input, norm_weight, cosine, sine, output};
  RmsNormRotary(context, {&part, 1}, epsilon);
}

void RmsNormRotary(Context& context, std::span<const HeadRows> parts, float epsilon) {
  for (const HeadRows& part : parts) {
    Check(context, part);
    if (part.input.dim(3) != parts[0].input.dim(3)) {
      Fail(ErrorCode::kInvalidArgument, "{}: input: expected a head dimension of {}, found {}",
           kName, parts[0].input.dim(3), part.input.dim(3));
    }
  }
  DispatchWithCpuScratch(
      context,
      [&] {
        for (const HeadRows& part : parts) {
          cpu::RmsNormRotary(context, part.input, part.norm_weight, epsilon, part.cosine, part.sine,
                             part.output);
        }
      },
      [&](cuda::Stream& stream) { cuda::RmsNormRotary(stream, parts, epsilon); });
}

}  // namespace tamias
