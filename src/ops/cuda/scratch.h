// The scratch memory that a caller gives an operation: u8 on the operation's device, contiguous, at
// least as many bytes as the operation's ...ScratchBytes says. Pieces of it begin at multiples of
// 256 bytes.
#pragma once

#include "base/check.h"
#include "ops/cuda/check_operand.h"
#include "ops/cuda/scratch_bytes.h"

namespace tamias::cuda {

class Scratch {
 public:
  // Throws kInvalidArgument when there are fewer bytes.
  Scratch(std::string_view operation, const TensorView& memory, size_t bytes) : memory_(memory) {
    TAMIAS_CHECK(memory.rank() == 1 && memory.dtype() == DType::kU8 && memory.IsContiguous());
    CheckVectorRows(operation, "scratch", memory);
    CheckRange(operation, "scratch: bytes", memory.dim(0), static_cast<int64_t>(bytes), INT64_MAX);
  }

  TensorView Take(const Shape& shape, DType dtype) {
    const auto bytes = static_cast<int64_t>(ScratchBytes(shape, dtype));
    TAMIAS_CHECK(used_ + bytes <= memory_.dim(0));
    const TensorView piece = memory_.Slice(0, used_, used_ + bytes);
    used_ += bytes;
    return TensorView(piece.raw(), dtype, shape, memory_.device());
  }

 private:
  TensorView memory_;
  int64_t used_ = 0;
};

}  // namespace tamias::cuda
