// Parts of a model or of its state that take turns in a GPU's memory: each has a place in pinned
// memory of the host, and one of a few slots on the device, always the same, so that tensors in it
// keep their addresses. While one part is computed with, the next ones are on their way; what was
// changed goes back on a queue of its own. Used in the order of their numbers, again and again, no
// part is waited for but for want of bandwidth; any other order is as right, only slower.
// Several threads may use them at once.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "base/cuda/event.h"
#include "base/cuda/stream.h"
#include "tamias/device.h"
#include "tamias/tensor.h"

namespace tamias {

// The parts' places in pinned memory. They keep their contents when the slots on the device go.
class PinnedParts {
 public:
  // Uninitialised. Throws kOutOfMemory.
  PinnedParts(Device device, const std::vector<size_t>& part_bytes);

  size_t count() const { return parts_.size(); }
  TensorView part(size_t i) const;
  size_t bytes() const;  // of all

 private:
  std::vector<Tensor> parts_;
};

class OffloadedParts {
 public:
  static constexpr size_t kSlots = 3;  // one in use, one on its way in, one out
  // What parts of these sizes take on the device.
  static size_t DeviceBytes(const std::vector<size_t>& part_bytes);

  // Throws kOutOfMemory.
  OffloadedParts(Device device, const std::vector<size_t>& part_bytes);
  // With contents that are there.
  OffloadedParts(Device device, std::shared_ptr<const PinnedParts> host);

  // Where a part lies on the device when it does. 256-byte aligned.
  std::byte* device_memory(size_t part) const;
  // Its place in the host's memory, uninitialised: to be written before the first Acquire.
  std::byte* host_memory(size_t part) const;
  const std::shared_ptr<const PinnedParts>& host() const { return host_; }

  // What is enqueued on the stream from now on finds the part on the device. A thread holds one
  // part at a time.
  void Acquire(cuda::Stream& stream, size_t part);
  // After the last work with it was enqueued. is_changed: the device's contents are kept.
  void Release(cuda::Stream& stream, size_t part, bool is_changed);

 private:
  struct Slot {
    explicit Slot(int device) : landed(device), left(device), saved(device) {}
    std::ptrdiff_t part = -1;  // that lies there or is on its way; -1: none
    int users = 0;
    cuda::Event landed;  // the part's contents are there
    cuda::Event left;    // a user is done
    cuda::Event saved;   // its contents are back in the host's memory
  };
  Slot& SlotOf(size_t part) const { return *slots_[part % slots_.size()]; }
  // Brings a part into its slot, which nobody uses.
  void Bring(size_t part);
  TensorView OnDevice(size_t part) const;

  std::mutex mutex_;
  std::condition_variable freed_;
  std::shared_ptr<const PinnedParts> host_;
  std::vector<Tensor> memory_;  // of the slots
  std::vector<std::unique_ptr<Slot>> slots_;
  cuda::Stream up_, down_;
};

}  // namespace tamias
