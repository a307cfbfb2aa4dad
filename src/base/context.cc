// What a context opens: a queue where its device is a GPU, scratch memory on that device.
#include "base/context.h"

#include "base/check.h"
#include "base/cuda/compute_capability.h"
#include "base/cuda/stream.h"
#include "base/machine.h"

namespace tamias {
namespace {

int ThreadsOrAll(int threads) { return threads > 0 ? threads : UsableCpus(); }

std::unique_ptr<cuda::Stream> StreamOf(Device device) {
  if (device.type == DeviceType::kCpu) return nullptr;
  auto stream = std::make_unique<cuda::Stream>(device.index);
  cuda::CheckComputeCapability(stream->properties());
  return stream;
}

}  // namespace

Context::Context(int threads, size_t workspace_bytes)
    : threads_(ThreadsOrAll(threads)), workspace_(workspace_bytes) {}

Context::Context(const Placement& placement, int threads, size_t workspace_bytes)
    : placement_(placement),
      threads_(ThreadsOrAll(threads)),
      stream_(StreamOf(placement.device)),
      workspace_(workspace_bytes, placement.device) {}

Context::~Context() = default;

cuda::Stream& Context::stream() const {
  TAMIAS_CHECK(stream_ != nullptr);
  return *stream_;
}

void Context::Synchronize() const {
  if (stream_ != nullptr) stream_->Synchronize();
}

}  // namespace tamias
