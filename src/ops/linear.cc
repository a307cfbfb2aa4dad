// Entry of the dense layer: checks, then the device's implementation.
#include "ops/linear.h"

#include <algorithm>

#include "base/check.h"
#include "ops/check_tensor.h"
#include "ops/cuda/cublas_lt.h"
#include "ops/dequantise.h"
#include "ops/dispatch.h"
#include "ops/elementwise.h"

namespace tamias {
namespace {

constexpr std::string_view kName = "linear";

void CheckArguments(const Context& context, const ConstTensorView& input,
                    const ConstTensorView& weight, const ConstTensorView& bias,
                    const TensorView& output) {
  if (input.rank() < 1) {
    Fail(ErrorCode::kInvalidArgument, "{}: input: expected at least one axis, found none", kName);
  }
  CheckActivationRows(context, kName, "input", input, input.shape());
  CheckMatrix(context, kName, "weight", weight, {-1, input.dim(-1)});
  CheckUnitStride(kName, "weight", weight);
  CheckOptionalWeight(context, kName, "bias", bias, weight.dim(0));
  Shape shape = input.shape();
  shape[shape.rank() - 1] = weight.dim(0);
  CheckActivationRows(context, kName, "output", output, shape);
}

// The view itself, or its values in another type, valid in the caller's workspace scope.
ConstTensorView InType(Context& context, ConstTensorView view, DType dtype) {
  if (view.empty() || view.dtype() == dtype) return view;
  const TensorView converted = context.workspace().Allocate(view.shape(), dtype);
  Convert(context, view, converted);
  return converted;
}

bool HasWholeVectors(const ConstTensorView& view) {
  const int64_t vector = view.dtype() == DType::kF8E4M3 ? 16 : 8;
  const auto is_whole = [vector](int64_t elements) { return elements % vector == 0; };
  for (int axis = 0; axis < view.rank() - 1; ++axis) {
    if (view.dim(axis) > 1 && !is_whole(view.stride(axis))) return false;
  }
  constexpr uintptr_t kBytes = 16;
  return is_whole(view.dim(-1)) && reinterpret_cast<uintptr_t>(view.raw()) % kBytes == 0;
}

bool IsOfFewRows(const ConstTensorView& input, const ConstTensorView& weight) {
  const int64_t features = std::max<int64_t>(input.dim(-1), 1);
  return input.NumElements() / features <= cuda::kFewRows && HasWholeVectors(input) &&
         HasWholeVectors(weight);
}

}  // namespace

void Linear(Context& context, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            TensorView output, LinearOptions options) {
  CheckArguments(context, input, weight, bias, output);
  if (context.IsOnGpu() && IsOfFewRows(input, weight)) {
    return Dispatch(
        context, [] {},
        [&](cuda::Stream& stream) {
          cuda::FewRowsLinear(stream, input, weight, bias, output, options);
        });
  }
  Workspace::Scope scope(context.workspace());
  weight = Dequantised(context, weight);
  TensorView scratch;
  if (context.IsOnGpu()) {
    input = InType(context, input, weight.dtype());
    bias = InType(context, bias, output.dtype());
    scratch = context.workspace().AllocateBytes(cuda::CublasLt::kScratchBytes);
  }
  DispatchWithCpuScratch(
      context, [&] { cpu::Linear(context, input, weight, bias, output, options); },
      [&](cuda::Stream& stream) {
        cuda::Linear(context.resources().Get<cuda::CublasLt>(), stream, input, weight, bias,
                     scratch, output, options);
      });
}

}  // namespace tamias
