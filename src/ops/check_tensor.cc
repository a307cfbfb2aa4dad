// Entry checks: see the header.
#include "ops/check_tensor.h"

#include "base/check.h"

namespace tamias {
namespace {

std::string Expected(const Shape& shape) {
  std::string text = "[";
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (axis > 0) text += ", ";
    text += shape[axis] < 0 ? "any" : std::to_string(shape[axis]);
  }
  return text + "]";
}

void CheckShape(std::string_view operation, std::string_view argument, const ConstTensorView& view,
                const Shape& shape) {
  bool fits = view.rank() == shape.rank();
  bool holds_elements = true;
  for (int axis = 0; fits && axis < shape.rank(); ++axis) {
    fits = shape[axis] < 0 || shape[axis] == view.dim(axis);
    holds_elements = holds_elements && view.dim(axis) > 0;
  }
  if (!fits || (view.empty() && holds_elements)) {
    Fail(ErrorCode::kInvalidArgument, "{}: {}: expected shape {}, found {}", operation, argument,
         Expected(shape), view.empty() ? "no tensor" : view.shape().ToString());
  }
}

}  // namespace

void CheckTensor(std::string_view operation, std::string_view argument, const ConstTensorView& view,
                 DType dtype, const Shape& shape) {
  CheckShape(operation, argument, view, shape);
  if (view.dtype() != dtype) {
    Fail(ErrorCode::kInvalidArgument, "{}: {}: expected {}, found {}", operation, argument,
         Name(dtype), Name(view.dtype()));
  }
}

void CheckWeight(std::string_view operation, std::string_view argument, const ConstTensorView& view,
                 const Shape& shape) {
  CheckShape(operation, argument, view, shape);
  if (view.dtype() != DType::kF32 && view.dtype() != DType::kF16 && view.dtype() != DType::kBF16) {
    Fail(ErrorCode::kInvalidArgument, "{}: {}: expected f32, f16 or bf16, found {}", operation,
         argument, Name(view.dtype()));
  }
}

void CheckUnitStride(std::string_view operation, std::string_view argument,
                     const ConstTensorView& view) {
  if (view.rank() > 0 && view.dim(-1) > 1 && view.stride(-1) != 1) {
    Fail(ErrorCode::kInvalidArgument, "{}: {}: expected last stride 1, found {}", operation,
         argument, view.stride(-1));
  }
}

void CheckContiguous(std::string_view operation, std::string_view argument,
                     const ConstTensorView& view) {
  if (view.NumElements() > 0 && !view.IsContiguous()) {
    Fail(ErrorCode::kInvalidArgument,
         "{}: {}: expected a contiguous tensor, found strides {} for shape {}", operation, argument,
         view.strides().ToString(), view.shape().ToString());
  }
}

void CheckAtLeast(std::string_view operation, std::string_view argument, int64_t value,
                  int64_t least) {
  if (value < least) {
    Fail(ErrorCode::kInvalidArgument, "{}: {}: expected at least {}, found {}", operation, argument,
         least, value);
  }
}

void CheckPlace(const Context& context, std::string_view operation, std::string_view argument,
                const ConstTensorView& view) {
  if (!view.empty() && view.device() != context.device()) {
    Fail(ErrorCode::kInvalidArgument, "{}: {}: expected memory of {}, found memory of {}",
         operation, argument, Name(context.device()), Name(view.device()));
  }
}

void CheckTensor(const Context& context, std::string_view operation, std::string_view argument,
                 const ConstTensorView& view, DType dtype, const Shape& shape) {
  CheckTensor(operation, argument, view, dtype, shape);
  CheckPlace(context, operation, argument, view);
}

void CheckList(const Context& context, std::string_view operation, std::string_view argument,
               const ConstTensorView& view, DType dtype, const Shape& shape) {
  CheckTensor(context, operation, argument, view, dtype, shape);
  CheckContiguous(operation, argument, view);
}

void CheckWeight(const Context& context, std::string_view operation, std::string_view argument,
                 const ConstTensorView& view, const Shape& shape) {
  CheckWeight(operation, argument, view, shape);
  CheckPlace(context, operation, argument, view);
}

void CheckMatrix(const Context& context, std::string_view operation, std::string_view argument,
                 const ConstTensorView& view, const Shape& shape) {
  if (view.dtype() != DType::kF8E4M3) return CheckWeight(context, operation, argument, view, shape);
  CheckTensor(context, operation, argument, view, DType::kF8E4M3, shape);
  if (view.row_scales() == nullptr) {
    Fail(ErrorCode::kInvalidArgument, "{}: {}: expected scales of the rows, found none", operation,
         argument);
  }
}

void CheckOptionalWeight(const Context& context, std::string_view operation,
                         std::string_view argument, const ConstTensorView& view, int64_t features) {
  if (view.empty()) return;
  CheckWeight(context, operation, argument, view, {features});
  CheckUnitStride(operation, argument, view);
}

void CheckActivations(const Context& context, std::string_view operation, std::string_view argument,
                      const ConstTensorView& view, const Shape& shape) {
  if (context.IsOnGpu()) return CheckWeight(context, operation, argument, view, shape);
  const bool is_narrow = view.dtype() == DType::kBF16 && context.activation_dtype() == view.dtype();
  CheckTensor(context, operation, argument, view, is_narrow ? DType::kBF16 : DType::kF32, shape);
}

void CheckActivationRows(const Context& context, std::string_view operation,
                         std::string_view argument, const ConstTensorView& view,
                         const Shape& shape) {
  CheckActivations(context, operation, argument, view, shape);
  CheckUnitStride(operation, argument, view);
}

}  // namespace tamias
