// A stack over a list of blocks: what does not fit into the present block goes to the next one, or
// to a new one of its own size. Allocations are multiples of 64 bytes, of 256 on a GPU.
#include "tamias/workspace.h"

#include <algorithm>

#include "base/check.h"
#include "tamias/device_memory.h"

namespace tamias {
namespace {

// On a GPU 256 is what allocations have: products are then always planned for the same alignment.
size_t AlignmentOn(Device device) { return device.type == DeviceType::kCuda ? 256 : 64; }

}  // namespace

Workspace::Workspace(size_t capacity, Device device) : device_(device) {
  if (capacity > 0) AddBlock(capacity);
}

Workspace Workspace::Measuring(Device device) {
  Workspace workspace(0, device);
  workspace.measures_ = true;
  return workspace;
}

void Workspace::AddBlock(size_t bytes) {
  blocks_.push_back(TensorOn(device_, Shape{static_cast<int64_t>(bytes)}, DType::kU8));
}

TensorView Workspace::Allocate(Shape shape, DType dtype) {
  size_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<size_t>(shape.NumElements()), SizeOf(dtype), &bytes) ||
      bytes > SIZE_MAX / 2) {
    Fail(ErrorCode::kOutOfMemory, "a tensor of shape {} is too large", shape.ToString());
  }
  const size_t alignment = AlignmentOn(device_);
  bytes = (bytes + alignment - 1) / alignment * alignment;
  live_ += bytes;
  peak_ = std::max(peak_, live_);
  if (measures_) {
    return TensorView::WithoutMemory(shape, dtype, device_, live_ - bytes);
  }
  while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].bytes()) {
    ++block_;
    used_ = 0;
  }
  if (block_ == blocks_.size()) AddBlock(bytes);
  std::byte* memory = static_cast<std::byte*>(blocks_[block_].view().raw()) + used_;
  used_ += bytes;
  return TensorView(memory, dtype, shape, device_);
}

size_t Workspace::reserved_bytes() const {
  size_t bytes = 0;
  for (const Tensor& block : blocks_) bytes += block.bytes();
  return bytes;
}

}  // namespace tamias
