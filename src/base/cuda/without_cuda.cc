// What a build without CUDA answers (cmake/TamiasCuda.cmake).
#include "base/check.h"
#include "base/cuda/device.h"
#include "base/cuda/event.h"
#include "base/cuda/memory.h"
#include "base/cuda/peer.h"
#include "base/cuda/stream.h"

namespace tamias::cuda {
namespace {

[[noreturn]] void FailWithoutCuda(int device) {
  Fail(ErrorCode::kDevice, "GPU {}: this build of Tamias has no CUDA", device);
}

}  // namespace

int DeviceCount() noexcept { return 0; }

DeviceProperties PropertiesOf(int device) { FailWithoutCuda(device); }

size_t FreeMemoryBytes(int device) { FailWithoutCuda(device); }

Stream::Stream(int device) : device_(device) { FailWithoutCuda(device); }

Stream::Stream(const Stream& own, CUstream_st*) : device_(own.device_) { FailWithoutCuda(device_); }

Stream::~Stream() = default;

void Stream::Synchronize() { FailWithoutCuda(device_); }

void Stream::WaitFor(const Stream&) { FailWithoutCuda(device_); }

Event::Event(int device) : device_(device) { FailWithoutCuda(device); }

Event::~Event() = default;

void Event::Record(const Stream& stream) { FailWithoutCuda(stream.device().index); }

void Event::Synchronize() const { FailWithoutCuda(device_); }

void Event::SynchronizeQuietly() const noexcept {}

void Event::BlockStream(Stream& stream) const { FailWithoutCuda(stream.device().index); }

Tensor PinnedTensor(const Shape&, DType, int device) { FailWithoutCuda(device); }

Tensor DeviceTensor(const Shape&, DType, int device) { FailWithoutCuda(device); }

void Copy(Stream& stream, ConstTensorView, TensorView) { FailWithoutCuda(stream.device().index); }

void AllowPeerAccess(int device, int) { FailWithoutCuda(device); }

void CopyFromPeer(Stream& stream, ConstTensorView, TensorView) {
  FailWithoutCuda(stream.device().index);
}

void Zero(Stream& stream, TensorView) { FailWithoutCuda(stream.device().index); }

}  // namespace tamias::cuda
