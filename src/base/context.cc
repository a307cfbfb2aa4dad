// What a context takes: a queue of its device's resources where that is a GPU, scratch memory
// there.
#include "tamias/context.h"

#include <utility>

#include "base/check.h"
#include "base/cuda/stream.h"
#include "base/machine.h"

namespace tamias {
namespace {

int ThreadsOrAll(int threads) { return threads > 0 ? threads : UsableCpus(); }

}  // namespace

Context::Context(int threads, size_t workspace_bytes)
    : Context(Placement{}, threads, workspace_bytes) {}

Context::Context(const Placement& placement, int threads, size_t workspace_bytes)
    : Context(std::make_shared<DeviceResources>(placement.device), placement, threads,
              workspace_bytes) {}

Context::Context(std::shared_ptr<DeviceResources> resources, const Placement& placement,
                 int threads, size_t workspace_bytes)
    : placement_(placement),
      threads_(ThreadsOrAll(threads)),
      resources_(std::move(resources)),
      stream_(placement.IsOnGpu() ? resources_->TakeStream() : nullptr),
      workspace_(workspace_bytes, placement.device) {
  TAMIAS_CHECK(resources_->device() == placement.device);
  if (placement.IsOnGpu()) host_workspace_.emplace();
}

Context::Context(PlanningTag, const Placement& placement, int threads)
    : placement_(placement),
      is_planning_(true),
      threads_(ThreadsOrAll(threads)),
      workspace_(Workspace::Measuring(placement.device)) {
  if (placement.IsOnGpu()) host_workspace_ = Workspace::Measuring({});
}

Context Context::Planning(const Placement& placement, int threads) {
  return Context(PlanningTag(), placement, threads);
}

// Work that is still enqueued uses the workspace, which ends with this.
Context::~Context() {
  if (stream_ == nullptr) return;
  try {
    stream_->Synchronize();
    resources_->GiveBack(std::move(stream_));
  } catch (const Error&) {
    // What failed is said where the work is waited for; a queue that failed is not used again.
  }
}

cuda::Stream& Context::stream() const {
  TAMIAS_CHECK(stream_ != nullptr);
  return *stream_;
}

DeviceResources& Context::resources() const {
  TAMIAS_CHECK(resources_ != nullptr);
  return *resources_;
}

void Context::Synchronize() const {
  if (stream_ != nullptr) stream_->Synchronize();
}

StreamScope::StreamScope(Context& context, CUstream_st* stream) : context_(context) {
  TAMIAS_CHECK(context.stream_ != nullptr);
  auto callers = std::make_unique<cuda::Stream>(*context.stream_, stream);
  callers->WaitFor(*context.stream_);
  own_ = std::exchange(context.stream_, std::move(callers));
}

StreamScope::~StreamScope() {
  try {
    own_->WaitFor(*context_.stream_);
  } catch (const Error&) {
    // What failed is said where the work is waited for.
  }
  context_.stream_ = std::move(own_);
}

}  // namespace tamias
