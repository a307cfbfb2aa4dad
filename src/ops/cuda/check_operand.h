// The checks at the entry of a CUDA operation: those of ops/check_tensor.h, and that the memory
// lies on a device and that vector loads can serve it. Each throws kInvalidArgument with one line.
#pragma once

#include "ops/check_tensor.h"

namespace tamias::cuda {

constexpr int64_t kVectorBytes = 16;  // of the accesses that the kernels make

// CheckTensor, and device memory. Empty shapes need no memory.
inline void CheckOperand(std::string_view operation, std::string_view argument,
                         const ConstTensorView& view, DType dtype, const Shape& shape) {
  CheckTensor(operation, argument, view, dtype, shape);
  if (!view.empty() && view.device().type != DeviceType::kCuda) {
    Fail(ErrorCode::kInvalidArgument, "{}: {}: expected memory of a CUDA device, found the CPU's",
         operation, argument);
  }
}

// As CheckOperand, for an f32, f16 or bf16 tensor.
inline void CheckFloats(std::string_view operation, std::string_view argument,
                        const ConstTensorView& view, const Shape& shape) {
  CheckWeight(operation, argument, view, shape);
  CheckOperand(operation, argument, view, view.dtype(), shape);
}

// As CheckOperand, for f16 or bf16: what the tensor cores take.
inline void CheckHalves(std::string_view operation, std::string_view argument,
                        const ConstTensorView& view, const Shape& shape) {
  CheckFloats(operation, argument, view, shape);
  if (view.dtype() == DType::kF32) {
    Fail(ErrorCode::kInvalidArgument, "{}: {}: expected f16 or bf16, found f32", operation,
         argument);
  }
}

// The last stride is 1, and every row begins at a multiple of 16 bytes.
inline void CheckVectorRows(std::string_view operation, std::string_view argument,
                            const ConstTensorView& view) {
  CheckUnitStride(operation, argument, view);
  if (view.NumElements() == 0) return;
  if (reinterpret_cast<uintptr_t>(view.raw()) % kVectorBytes != 0) {
    Fail(ErrorCode::kInvalidArgument, "{}: {}: expected memory aligned to {} bytes, found {:#x}",
         operation, argument, kVectorBytes, reinterpret_cast<uintptr_t>(view.raw()));
  }
  const auto size = static_cast<int64_t>(SizeOf(view.dtype()));
  for (int axis = 0; axis < view.rank() - 1; ++axis) {
    if (view.dim(axis) > 1 && view.stride(axis) * size % kVectorBytes != 0) {
      Fail(ErrorCode::kInvalidArgument,
           "{}: {}: expected strides of whole {}-byte vectors, found {} for shape {}", operation,
           argument, kVectorBytes, view.strides().ToString(), view.shape().ToString());
    }
  }
}

inline void CheckRange(std::string_view operation, std::string_view argument, int64_t value,
                       int64_t low, int64_t high) {
  if (value < low || value > high) {
    Fail(ErrorCode::kInvalidArgument, "{}: {}: expected {} to {}, found {}", operation, argument,
         low, high, value);
  }
}

inline void CheckMultiple(std::string_view operation, std::string_view argument, int64_t value,
                          int64_t factor) {
  if (value % factor != 0) {
    Fail(ErrorCode::kInvalidArgument, "{}: {}: expected a multiple of {}, found {}", operation,
         argument, factor, value);
  }
}

}  // namespace tamias::cuda
