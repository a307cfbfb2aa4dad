// Element-wise arithmetic and conversion: the operations that elementwise.cuh runs.
#include "ops/elementwise.h"

#include "ops/cuda/elementwise.cuh"

namespace tamias::cuda {
namespace {

struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct Product {
  __device__ float operator()(float a, float b) const { return a * b; }
};
struct Distance {
  __device__ float operator()(float a, float b) const { return fabsf(a - b); }
};
struct SumOfMultiple {
  float factor;
  __device__ float operator()(float y, float x) const { return y + factor * x; }
};
struct Affine {
  float factor, offset;
  __device__ float operator()(float a, float) const { return factor * a + offset; }
};
struct Identity {
  __device__ float operator()(float a, float) const { return a; }
};

}  // namespace

void Add(Stream& stream, ConstTensorView a, ConstTensorView b, TensorView output) {
  Elementwise(stream, "add", Sum{}, a, b, output);
}

void Multiply(Stream& stream, ConstTensorView a, ConstTensorView b, TensorView output) {
  Elementwise(stream, "multiply", Product{}, a, b, output);
}

void AbsoluteDifference(Stream& stream, ConstTensorView a, ConstTensorView b, TensorView output) {
  Elementwise(stream, "absolute difference", Distance{}, a, b, output);
}

void Axpy(Stream& stream, float factor, ConstTensorView x, TensorView y) {
  Elementwise(stream, "axpy", SumOfMultiple{factor}, y, x, y);
}

void ScaleShift(Stream& stream, ConstTensorView input, float factor, float offset,
                TensorView output) {
  Elementwise(stream, "scale shift", Affine{factor, offset}, input, {}, output);
}

void Convert(Stream& stream, ConstTensorView input, TensorView output) {
  Elementwise(stream, "convert", Identity{}, input, {}, output);
}

}  // namespace tamias::cuda
