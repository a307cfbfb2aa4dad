// act(x) in fp32 on the device, for each activation of ops/activation.h. NaN stays NaN. Divisions
// are to 2 ulp: the correctly rounded one is a dozen instructions and a branch.
#pragma once

#include "ops/activation.h"
#include "ops/cuda/vector.cuh"

namespace tamias::cuda {

__device__ inline float Exp(float x) { return Exp2(1.44269504f * x); }

// The tanh form of GELU is x times a sigmoid: (1 + tanh(u)) / 2 = 1 / (1 + exp(-2u)).
__device__ inline float GeluTanh(float x) {
  constexpr float kTwiceSqrt2OverPi = 1.59576912f;
  return __fdividef(x, 1 + Exp(-kTwiceSqrt2OverPi * (x + 0.044715f * x * x * x)));
}

__device__ inline float ActivateScalar(Activation activation, float x) {
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return x < 0 ? 0.0f : x;
    case Activation::kGeluTanh:
      return GeluTanh(x);
    case Activation::kGeluErf:
      return 0.5f * x * erfcf(-0.707106781f * x);
    case Activation::kSilu:
      return __fdividef(x, 1 + Exp(-x));
    case Activation::kQuickGelu:
      return __fdividef(x, 1 + Exp(-1.702f * x));
    case Activation::kTanh:
      return tanhf(x);
  }
  return x;
}

__device__ inline void Activate8(Activation activation, Floats8& v) {
  for (int i = 0; i < kVector; ++i) v[i] = ActivateScalar(activation, v[i]);
}

}  // namespace tamias::cuda
