// Memory on the device of a context, and what moves between it and the host. On the CPU there is
// nothing to move: what would be a copy is the host's memory itself. With a planning
// context nothing is copied or waited for, and what is returned has no memory.
#pragma once

#include <memory>

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

namespace cuda {
class Event;
}

// Contiguous, uninitialised, on any device. Throws kOutOfMemory.
Tensor TensorOn(Device device, const Shape& shape, DType dtype);
// On the context's device.
Tensor TensorOn(const Context& context, const Shape& shape, DType dtype);

// On the host, for what comes from the context's device or goes there.
Tensor HostTensor(const Context& context, const Shape& shape, DType dtype);

// Sets a contiguous view on the context's device to zero. On a GPU: enqueued.
void Zero(const Context& context, TensorView view);

// A contiguous copy on the context's device of a contiguous tensor of the host. Waits for the copy.
Tensor CopyToDevice(const Context& context, ConstTensorView host);
// Fills a contiguous view on the context's device from the host. Waits for the copy.
void CopyToDevice(const Context& context, ConstTensorView host, TensorView device);
// A contiguous copy on the host of a contiguous view of the context's device. Waits for the work
// enqueued before.
Tensor CopyToHost(const Context& context, ConstTensorView device);
// The same into a contiguous view of the host.
void CopyToHost(const Context& context, ConstTensorView device, TensorView host);

// A contiguous tensor of the host as the context's device reads it: the host's own memory on the
// CPU; on a GPU a copy in the workspace, valid in the caller's scope. Waits for the copy.
ConstTensorView OnDevice(Context& context, ConstTensorView host);

// The same for one that changes: the host's own memory on the CPU; on a GPU memory of the
// workspace, valid in the caller's scope. The host's tensor must outlive it.
class DeviceMirror {
 public:
  DeviceMirror(Context& context, TensorView host);

  TensorView device() const { return device_; }
  // The host's tensor may change once this returns; the copy is enqueued. Nothing on the CPU.
  void Upload(const Context& context);
  // Waits for the copy; nothing on the CPU.
  void Download(const Context& context) const;
  // The same without waiting: the host's tensor is there once the context has been synchronised.
  void EnqueueDownload(const Context& context) const;

 private:
  TensorView host_;
  TensorView device_;
  Tensor pinned_;                          // what is on its way up
  std::shared_ptr<cuda::Event> has_left_;  // it
};

}  // namespace tamias
