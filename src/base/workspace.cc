#include "base/workspace.h"

#include <algorithm>

namespace tamias {
namespace {
constexpr size_t kAlignment = 64;
}

Workspace::Workspace(size_t capacity) {
  if (capacity > 0) blocks_.emplace_back(Shape{static_cast<int64_t>(capacity)}, DType::kU8);
}

TensorView Workspace::Allocate(Shape shape, DType dtype) {
  size_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<size_t>(shape.NumElements()), SizeOf(dtype), &bytes) ||
      bytes > SIZE_MAX / 2) {
    Fail(ErrorCode::kOutOfMemory, "a tensor of shape {} is too large", shape.ToString());
  }
  bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].bytes()) {
    ++block_;
    used_ = 0;
  }
  if (block_ == blocks_.size()) {
    blocks_.emplace_back(Shape{static_cast<int64_t>(bytes)}, DType::kU8);
  }
  std::byte* memory = static_cast<std::byte*>(blocks_[block_].view().raw()) + used_;
  used_ += bytes;
  live_ += bytes;
  peak_ = std::max(peak_, live_);
  return TensorView(memory, dtype, shape);
}

size_t Workspace::reserved_bytes() const {
  size_t bytes = 0;
  for (const Tensor& block : blocks_) bytes += block.bytes();
  return bytes;
}

}  // namespace tamias
