// values = act(values), element by element.
#include "ops/activation.h"

#include "ops/cuda/activation.cuh"
#include "ops/cuda/elementwise.cuh"

namespace tamias::cuda {
namespace {

struct Activated {
  Activation activation;
  __device__ float operator()(float x, float) const { return ActivateScalar(activation, x); }
};

}  // namespace

void Activate(Stream& stream, Activation activation, TensorView values) {
  Elementwise(stream, "activation", Activated{activation}, values, {}, values);
}

}  // namespace tamias::cuda
