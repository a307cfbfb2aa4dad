// Queues go from context to context: a stage opens one only where none is free.
#include "tamias/device_resources.h"

#include <utility>

#include "base/cuda/stream.h"
#include "tamias/placement.h"

namespace tamias {

DeviceResources::DeviceResources(Device device) : device_(device) { CheckDevice(device); }

DeviceResources::~DeviceResources() = default;

std::unique_ptr<cuda::Stream> DeviceResources::TakeStream() {
  {
    const std::lock_guard lock(mutex_);
    if (!free_streams_.empty()) {
      std::unique_ptr<cuda::Stream> stream = std::move(free_streams_.back());
      free_streams_.pop_back();
      return stream;
    }
  }
  return std::make_unique<cuda::Stream>(device_.index);
}

void DeviceResources::GiveBack(std::unique_ptr<cuda::Stream> stream) {
  const std::lock_guard lock(mutex_);
  free_streams_.push_back(std::move(stream));
}

}  // namespace tamias
