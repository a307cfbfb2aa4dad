// The host's memory is its own copy on the CPU; on a GPU each copy waits until it has landed.
#include "base/device_memory.h"

#include <cstring>

#include "base/cuda/memory.h"

namespace tamias {

Tensor TensorOn(Device device, const Shape& shape, DType dtype) {
  if (device.type == DeviceType::kCuda) return cuda::DeviceTensor(shape, dtype, device.index);
  return Tensor(shape, dtype);
}

void Zero(const Context& context, TensorView view) {
  if (context.IsOnGpu()) return cuda::Zero(context.stream(), view);
  TAMIAS_CHECK(view.NumElements() == 0 || view.IsContiguous());
  std::memset(view.raw(), 0, static_cast<size_t>(view.NumElements()) * SizeOf(view.dtype()));
}

Tensor CopyToDevice(const Context& context, ConstTensorView host) {
  Tensor device = TensorOn(context.device(), host.shape(), host.dtype());
  CopyToDevice(context, host, device);
  return device;
}

void CopyToDevice(const Context& context, ConstTensorView host, TensorView device) {
  if (!context.IsOnGpu()) return CopyTensor(host, device);
  cuda::Copy(context.stream(), host, device);
  context.Synchronize();
}

Tensor CopyToHost(const Context& context, ConstTensorView device) {
  if (!context.IsOnGpu()) return Tensor::CopyOf(device);
  Tensor host(device.shape(), device.dtype());
  cuda::Copy(context.stream(), device, host);
  context.Synchronize();
  return host;
}

DeviceMirror::DeviceMirror(const Context& context, TensorView host)
    : host_(host), is_copied_(context.IsOnGpu()) {
  if (is_copied_) copy_ = TensorOn(context.device(), host.shape(), host.dtype());
}

void DeviceMirror::Upload(const Context& context) {
  if (is_copied_) CopyToDevice(context, host_, copy_);
}

void DeviceMirror::Download(const Context& context) {
  if (!is_copied_) return;
  cuda::Copy(context.stream(), copy_, host_);
  context.Synchronize();
}

}  // namespace tamias
