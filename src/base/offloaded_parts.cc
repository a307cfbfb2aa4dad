// Parts that take turns in a GPU's memory: see the header.
#include "base/offloaded_parts.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/cuda/memory.h"

namespace tamias {
namespace {

// Of slot `slot` of `slots`: as large as the largest part that it takes.
size_t SlotBytes(const std::vector<size_t>& part_bytes, size_t slot, size_t slots) {
  size_t most = 0;
  for (size_t part = slot; part < part_bytes.size(); part += slots) {
    most = std::max(most, part_bytes[part]);
  }
  return most;
}

size_t NumSlots(size_t parts) { return std::min(parts, OffloadedParts::kSlots); }

}  // namespace

size_t OffloadedParts::DeviceBytes(const std::vector<size_t>& part_bytes) {
  const size_t slots = NumSlots(part_bytes.size());
  size_t bytes = 0;
  for (size_t slot = 0; slot < slots; ++slot) bytes += SlotBytes(part_bytes, slot, slots);
  return bytes;
}

PinnedParts::PinnedParts(Device device, const std::vector<size_t>& part_bytes) {
  for (const size_t bytes : part_bytes) {
    parts_.push_back(cuda::PinnedTensor({static_cast<int64_t>(bytes)}, DType::kU8, device.index));
  }
}

TensorView PinnedParts::part(size_t i) const {
  const ConstTensorView view = parts_[i].view();
  return TensorView(const_cast<void*>(view.raw()), DType::kU8, view.shape(), view.device());
}

size_t PinnedParts::bytes() const {
  size_t bytes = 0;
  for (const Tensor& part : parts_) bytes += part.bytes();
  return bytes;
}

OffloadedParts::OffloadedParts(Device device, const std::vector<size_t>& part_bytes)
    : OffloadedParts(device, std::make_shared<const PinnedParts>(device, part_bytes)) {}

OffloadedParts::OffloadedParts(Device device, std::shared_ptr<const PinnedParts> host)
    : host_(std::move(host)), up_(device.index), down_(device.index) {
  std::vector<size_t> part_bytes;
  for (size_t part = 0; part < host_->count(); ++part) {
    part_bytes.push_back(static_cast<size_t>(host_->part(part).NumElements()));
  }
  const size_t slots = NumSlots(part_bytes.size());
  for (size_t slot = 0; slot < slots; ++slot) {
    const auto bytes = static_cast<int64_t>(SlotBytes(part_bytes, slot, slots));
    memory_.push_back(cuda::DeviceTensor({bytes}, DType::kU8, device.index));
    slots_.push_back(std::make_unique<Slot>(device.index));
  }
}

TensorView OffloadedParts::OnDevice(size_t part) const {
  const Tensor& memory = memory_[part % slots_.size()];
  return TensorView(const_cast<void*>(memory.view().raw()), DType::kU8, host_->part(part).shape(),
                    memory.view().device());
}

std::byte* OffloadedParts::device_memory(size_t part) const {
  return static_cast<std::byte*>(OnDevice(part).raw());
}

std::byte* OffloadedParts::host_memory(size_t part) const {
  return static_cast<std::byte*>(host_->part(part).raw());
}

void OffloadedParts::Bring(size_t part) {
  Slot& slot = SlotOf(part);
  slot.part = static_cast<std::ptrdiff_t>(part);
  slot.saved.BlockStream(up_);
  cuda::Copy(up_, host_->part(part), OnDevice(part));
  slot.landed.Record(up_);
}

void OffloadedParts::Acquire(cuda::Stream& stream, size_t part) {
  std::unique_lock lock(mutex_);
  Slot& slot = SlotOf(part);
  const auto number = static_cast<std::ptrdiff_t>(part);
  freed_.wait(lock, [&] { return slot.users == 0 || slot.part == number; });
  if (slot.part != number) Bring(part);
  ++slot.users;
  slot.landed.BlockStream(stream);
  slot.saved.BlockStream(stream);
  for (size_t ahead = 1; ahead < slots_.size(); ++ahead) {
    const size_t next = (part + ahead) % host_->count();
    Slot& other = SlotOf(next);
    if (other.users == 0 && other.part != static_cast<std::ptrdiff_t>(next)) Bring(next);
  }
}

void OffloadedParts::Release(cuda::Stream& stream, size_t part, bool is_changed) {
  const std::lock_guard lock(mutex_);
  Slot& slot = SlotOf(part);
  TAMIAS_CHECK(slot.users > 0 && slot.part == static_cast<std::ptrdiff_t>(part));
  // At once, for the event will stand for the next user; what comes up later goes into this slot or
  // into those of the parts before.
  slot.left.Record(stream);
  slot.left.BlockStream(up_);
  if (is_changed) {
    slot.left.BlockStream(down_);
    cuda::Copy(down_, OnDevice(part), host_->part(part));
    slot.saved.Record(down_);
  }
  if (--slot.users == 0) freed_.notify_all();
}

}  // namespace tamias
