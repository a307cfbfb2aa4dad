// The checks that are the kernels' own, after those at the entry of the operation (ops/X.cc): the
// types that tensor cores take, memory that vector accesses can serve, and sizes that a launch or
// 32-bit indices hold. Each throws kInvalidArgument with one line.
#pragma once

#include "base/check.h"
#include "ops/check_tensor.h"

namespace tamias::cuda {

constexpr int64_t kVectorBytes = 16;  // of the accesses that the kernels make

// f16 or bf16: what the tensor cores take.
inline void CheckHalves(std::string_view operation, std::string_view argument,
                        const ConstTensorView& view) {
  if (view.dtype() != DType::kF16 && view.dtype() != DType::kBF16) {
    Fail(ErrorCode::kInvalidArgument, "{}: {}: expected f16 or bf16, found {}", operation, argument,
         Name(view.dtype()));
  }
}

// The type of another operand: what the tensor cores multiply is alike.
inline void CheckAlike(std::string_view operation, std::string_view argument,
                       const ConstTensorView& view, DType dtype) {
  if (view.dtype() != dtype) {
    Fail(ErrorCode::kInvalidArgument, "{}: {}: expected {}, found {}", operation, argument,
         Name(dtype), Name(view.dtype()));
  }
}

// Every row begins at a multiple of 16 bytes.
inline void CheckVectorRows(std::string_view operation, std::string_view argument,
                            const ConstTensorView& view) {
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
