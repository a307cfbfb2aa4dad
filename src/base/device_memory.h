// Memory on the device of a context, and what moves between it and the host. On the CPU there is
// nothing to move: what would be a copy is the host's memory itself.
#pragma once

#include "base/context.h"
#include "base/tensor.h"

namespace tamias {

// Contiguous, uninitialised, on any device. Throws kOutOfMemory.
Tensor TensorOn(Device device, const Shape& shape, DType dtype);

// Sets a contiguous view on the context's device to zero. On a GPU: enqueued.
void Zero(const Context& context, TensorView view);

// A contiguous copy on the context's device of a contiguous tensor of the host. Waits for the copy.
Tensor CopyToDevice(const Context& context, ConstTensorView host);
// Fills a contiguous view on the context's device from the host. Waits for the copy.
void CopyToDevice(const Context& context, ConstTensorView host, TensorView device);
// A contiguous copy on the host of a contiguous view of the context's device. Waits for the work
// enqueued before.
Tensor CopyToHost(const Context& context, ConstTensorView device);

// A contiguous tensor of the host as a context's device sees it: the host's own memory on the CPU,
// memory of its own on a GPU. The host's tensor must outlive it.
class DeviceMirror {
 public:
  DeviceMirror(const Context& context, TensorView host);

  TensorView device() { return is_copied_ ? copy_.view() : host_; }
  // Waits for the copy; nothing on the CPU.
  void Upload(const Context& context);
  void Download(const Context& context);

 private:
  TensorView host_;
  bool is_copied_;
  Tensor copy_;  // on a GPU
};

}  // namespace tamias
