// One running position gives each tensor its place (multiples of 256 bytes) and each layer's part
// whole pages, whether memory is taken, a file is mapped, or bytes are only counted.
#include "tamias/sparsity/state_builder.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/offloaded_parts.h"
#include "io/spill_file.h"
#include "tamias/device_memory.h"

namespace tamias {
namespace {

constexpr size_t kTensorAlignment = 256;  // as GPUs want it

size_t RoundUp(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

void StatePart::Enter(const Context& context) const {
  if (parts_ != nullptr) parts_->Acquire(context.stream(), index_);
}

void StatePart::Leave(const Context& context, bool is_changed) const {
  if (parts_ != nullptr) return parts_->Release(context.stream(), index_, is_changed);
  ReleasePages(begin_, bytes_);
}

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
  if (is_in_part_ && TakesTurns()) {
    const size_t offset = begin - part_begin_;
    std::memset(offloaded_->host_memory(turn_) + offset, 0, bytes);
    std::shared_ptr<std::byte> memory(offloaded_, offloaded_->device_memory(turn_) + offset);
    return Tensor(std::move(memory), shape, dtype, context_.device());
  }
  if (file_ == nullptr) {
    Tensor tensor = TensorOn(context_, shape, dtype);
    Zero(context_, tensor);
    return tensor;
  }
  TAMIAS_CHECK(position_ <= file_->size());
  // Shares the ownership of the whole file.
  return Tensor(std::shared_ptr<std::byte>(file_, file_->data() + begin), shape, dtype);
}

void StateBuilder::BeginPart(std::optional<int64_t> layer) {
  position_ = RoundUp(position_, PageBytes());
  part_layer_ = layer;
  part_begin_ = position_;
  is_in_part_ = true;
}

StatePart StateBuilder::EndPart() {
  is_in_part_ = false;
  position_ = RoundUp(position_, PageBytes());
  const size_t bytes = position_ - part_begin_;
  parted_bytes_ += bytes;
  largest_part_ = std::max(largest_part_, bytes);
  const bool takes_turns = TakesTurns();
  parts_.push_back({part_layer_, bytes});
  if (takes_turns) return {offloaded_, turn_++};
  if (file_ == nullptr) return {};
  return {file_->data() + part_begin_, std::min(bytes, file_->size() - part_begin_)};
}

}  // namespace tamias
