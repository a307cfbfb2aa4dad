// What a process holds of one device beside tensors, for as long as a pipeline lives: the queues of
// a GPU, and what the libraries of operations keep there (handles, algorithms chosen). Nothing of
// it is opened, loaded or freed per picture. Several threads may use it at once.
#pragma once

#include <memory>
#include <mutex>
#include <typeindex>
#include <typeinfo>
#include <unordered_map>
#include <vector>

#include "tamias/device.h"

namespace tamias {

namespace cuda {
class Stream;  // a queue of a GPU
}  // namespace cuda

// What an operation's library keeps on a device. Each kind is made at most once per device, by
// DeviceResources::Get, and used by several threads at once.
class DeviceResource {
 public:
  virtual ~DeviceResource() = default;
};

class DeviceResources {
 public:
  // Throws as CheckDevice (tamias/device.h). Opens nothing: queues and libraries follow on need.
  explicit DeviceResources(Device device = {});
  ~DeviceResources();
  DeviceResources(const DeviceResources&) = delete;
  DeviceResources& operator=(const DeviceResources&) = delete;

  Device device() const { return device_; }

  // The one Resource of this device, made by Resource(device()) when it is first asked for.
  template <typename Resource>
  Resource& Get() {
    const std::lock_guard lock(mutex_);
    std::unique_ptr<DeviceResource>& resource = resources_[std::type_index(typeid(Resource))];
    if (resource == nullptr) resource = std::make_unique<Resource>(device_);
    return static_cast<Resource&>(*resource);
  }

  // A queue of this GPU that nobody else uses until it is given back; waited for by whoever used
  // it.
  std::unique_ptr<cuda::Stream> TakeStream();
  void GiveBack(std::unique_ptr<cuda::Stream> stream);

 private:
  Device device_;
  std::mutex mutex_;
  std::unordered_map<std::type_index, std::unique_ptr<DeviceResource>> resources_;
  std::vector<std::unique_ptr<cuda::Stream>> free_streams_;
};

}  // namespace tamias
