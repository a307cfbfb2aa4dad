// One running position gives each tensor its place (multiples of 64 bytes) and each layer's part
// whole pages, whether memory is taken, a file is mapped, or bytes are only counted.
#include "tamias/sparsity/state_builder.h"

#include <algorithm>

#include "base/check.h"
#include "io/spill_file.h"
#include "tamias/device_memory.h"

namespace tamias {
namespace {

constexpr size_t kTensorAlignment = 64;

size_t RoundUp(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

void SpilledRange::Release() const { ReleasePages(begin, bytes); }

void StateBuilder::Count(std::string_view name, size_t bytes) {
  AddEntry(name, bytes);
  counted_ += bytes;
}

void StateBuilder::AddEntry(std::string_view name, size_t bytes) {
  auto entry = std::ranges::find_if(entries_, [&](const auto& e) { return e.first == name; });
  if (entry == entries_.end()) entry = entries_.insert(entry, {std::string(name), 0});
  if (__builtin_add_overflow(entry->second, bytes, &entry->second)) {
    Fail(ErrorCode::kOutOfMemory, "{}: more than 2^64 bytes", name);
  }
}

Tensor StateBuilder::Make(std::string_view name, Shape shape, DType dtype) {
  size_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<size_t>(shape.NumElements()), SizeOf(dtype), &bytes)) {
    Fail(ErrorCode::kOutOfMemory, "{}: a tensor of shape {} is too large", name, shape.ToString());
  }
  AddEntry(name, bytes);
  const size_t begin = RoundUp(position_, kTensorAlignment);
  position_ = begin + bytes;
  if (file_ == nullptr) {
    Tensor tensor = TensorOn(context_, shape, dtype);
    Zero(context_, tensor);
    return tensor;
  }
  TAMIAS_CHECK(position_ <= file_->size());
  // Shares the ownership of the whole file.
  return Tensor(std::shared_ptr<std::byte>(file_, file_->data() + begin), shape, dtype);
}

void StateBuilder::BeginPart() {
  position_ = RoundUp(position_, PageBytes());
  part_begin_ = position_;
}

SpilledRange StateBuilder::EndPart() {
  position_ = RoundUp(position_, PageBytes());
  const size_t bytes = position_ - part_begin_;
  parts_ += bytes;
  largest_part_ = std::max(largest_part_, bytes);
  if (file_ == nullptr) return {};
  return {file_->data() + part_begin_, std::min(bytes, file_->size() - part_begin_)};
}

}  // namespace tamias
