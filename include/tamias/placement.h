// Where a generation computes: its device, and the type of its activations there.
#pragma once

#include <optional>
#include <string_view>

#include "tamias/device.h"
#include "tamias/dtype.h"

namespace tamias {

struct Placement {
  Device device;
  // Of what layers hand to each other: f32 or bf16 on the CPU, f16 or bf16 on a GPU. The residual
  // stream, modulation vectors, log-sum-exps and column sums are f32 everywhere.
  DType activation_dtype = DType::kF32;
  // Of blocks' matrices, fp8_e4m3; none: that of activations, with f32 ones on the CPU the files'.
  std::optional<DType> weight_dtype = std::nullopt;
  // Blocks of the model come to the GPU for their turn (WeightTurn, tamias/weights.h).
  bool streams_weights = false;

  bool IsOnGpu() const { return device.type == DeviceType::kCuda; }
  // Whether what is made of weights is kept beside them. Else it is made at each turn: a copy kept
  // in 16 bits would take what streaming or 8 bits save.
  bool KeepsPreparedWeights() const { return !streams_weights && !weight_dtype; }
};

// The activations are what is asked for: f32 or bf16, on a GPU bf16 only (throws kUnsupported for
// f32); where nothing is, what suits the weights. On a GPU that is f16 for f16 weights, bf16 for
// all others (f32 weights are rounded to it), since tensor cores want both alike. On the CPU it is
// bf16 for bf16 weights where the processor multiplies them as such, else f32.
Placement PlacementOn(Device device, DType weights,
                      std::optional<DType> activations = std::nullopt);

// "f32" or "bf16"; "auto": nothing. Throws kInvalidArgument, naming `dtype`, for anything else.
std::optional<DType> ParseActivationType(std::string_view text);
// "fp8_e4m3"; "auto": nothing. Throws kInvalidArgument, naming `weight_dtype`, for anything else.
std::optional<DType> ParseWeightType(std::string_view text);

}  // namespace tamias
