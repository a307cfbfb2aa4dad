// The host's memory is its own copy on the CPU; on a GPU each copy waits until it has landed.
#include "tamias/device_memory.h"

#include <cstring>

#include "base/check.h"
#include "base/cuda/event.h"
#include "base/cuda/memory.h"

namespace tamias {

Tensor TensorOn(Device device, const Shape& shape, DType dtype) {
  if (device.type == DeviceType::kCuda) return cuda::DeviceTensor(shape, dtype, device.index);
  return Tensor(shape, dtype);
}

Tensor TensorOn(const Context& context, const Shape& shape, DType dtype) {
  if (context.IsPlanning()) return Tensor::WithoutMemory(shape, dtype, context.device());
  return TensorOn(context.device(), shape, dtype);
}

Tensor HostTensor(const Context& context, const Shape& shape, DType dtype) {
  if (context.IsPlanning()) return Tensor::WithoutMemory(shape, dtype, {});
  return Tensor(shape, dtype);
}

void Zero(const Context& context, TensorView view) {
  if (context.IsPlanning()) return;
  if (context.IsOnGpu()) return cuda::Zero(context.stream(), view);
  TAMIAS_CHECK(view.NumElements() == 0 || view.IsContiguous());
  std::memset(view.raw(), 0, static_cast<size_t>(view.NumElements()) * SizeOf(view.dtype()));
}

Tensor CopyToDevice(const Context& context, ConstTensorView host) {
  Tensor device = TensorOn(context, host.shape(), host.dtype());
  CopyToDevice(context, host, device);
  return device;
}

void CopyToDevice(const Context& context, ConstTensorView host, TensorView device) {
  if (context.IsPlanning()) return;
  if (!context.IsOnGpu()) return CopyOnHost(host, device);
  cuda::Copy(context.stream(), host, device);
  context.Synchronize();
}

Tensor CopyToHost(const Context& context, ConstTensorView device) {
  if (context.IsPlanning()) return Tensor::WithoutMemory(device.shape(), device.dtype(), {});
  if (!context.IsOnGpu()) return Tensor::CopyOf(device);
  Tensor host(device.shape(), device.dtype());
  CopyToHost(context, device, host);
  return host;
}

void CopyToHost(const Context& context, ConstTensorView device, TensorView host) {
  if (context.IsPlanning()) return;
  if (!context.IsOnGpu()) return CopyOnHost(device, host);
  cuda::Copy(context.stream(), device, host);
  context.Synchronize();
}

ConstTensorView OnDevice(Context& context, ConstTensorView host) {
  if (!context.IsOnGpu()) return host;
  const TensorView device = context.workspace().Allocate(host.shape(), host.dtype());
  CopyToDevice(context, host, device);
  return device;
}

DeviceMirror::DeviceMirror(Context& context, TensorView host)
    : host_(host),
      device_(context.IsOnGpu() ? context.workspace().Allocate(host.shape(), host.dtype()) : host) {
}

void DeviceMirror::Upload(const Context& context) {
  if (!context.IsOnGpu() || context.IsPlanning()) return;
  if (has_left_ == nullptr) {
    pinned_ = cuda::PinnedTensor(host_.shape(), host_.dtype(), context.device().index);
    has_left_ = std::make_shared<cuda::Event>(context.device().index);
  }
  has_left_->Synchronize();
  CopyOnHost(host_, pinned_);
  cuda::Copy(context.stream(), pinned_, device_);
  has_left_->Record(context.stream());
}

void DeviceMirror::Download(const Context& context) const {
  if (context.IsOnGpu()) CopyToHost(context, device_, host_);
}

void DeviceMirror::EnqueueDownload(const Context& context) const {
  if (context.IsOnGpu() && !context.IsPlanning()) cuda::Copy(context.stream(), device_, host_);
}

}  // namespace tamias
