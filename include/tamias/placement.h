// Where a generation computes: its device, and the type of its activations there.
#pragma once

#include "tamias/device.h"
#include "tamias/dtype.h"

namespace tamias {

struct Placement {
  Device device;
  // Of what layers hand to each other: f32 on the CPU, f16 or bf16 on a GPU. The residual stream,
  // modulation vectors, log-sum-exps and column sums are f32 everywhere.
  DType activation_dtype = DType::kF32;

  bool IsOnGpu() const { return device.type == DeviceType::kCuda; }
};

// On a GPU activations have the type of the weights, which tensor cores want alike: f16 for f16
// weights, bf16 for all others (f32 weights are rounded to it).
Placement PlacementOn(Device device, DType weights);

}  // namespace tamias
