// How tensors of the host come to an autoencoder on a GPU.
#pragma once

#include "tamias/context.h"
#include "tamias/device_memory.h"
#include "tamias/ops/elementwise.h"
#include "tamias/tensor.h"

namespace tamias {

// A contiguous f32 tensor of the host as the context's device computes with it: itself on the CPU;
// on a GPU a copy in the workspace in the type of its activations, valid in the caller's scope.
// Waits for the copy.
inline ConstTensorView ActivationsOf(Context& context, const ConstTensorView& host) {
  if (!context.IsOnGpu()) return host;
  const TensorView converted =
      context.workspace().Allocate(host.shape(), context.activation_dtype());
  Workspace::Scope scope(context.workspace());
  Convert(context, OnDevice(context, host), converted);
  return converted;
}

}  // namespace tamias
