// Activations in double precision, element by element.
#include "ops/activation.h"

#include <cmath>
#include <numbers>

namespace tamias::reference {
namespace {

void ActivateRecursive(Activation activation, const TensorView& values, int axis, float* data) {
  if (axis == values.rank()) {
    *data = static_cast<float>(ActivateScalar(activation, static_cast<double>(*data)));
    return;
  }
  for (int64_t i = 0; i < values.dim(axis); ++i) {
    ActivateRecursive(activation, values, axis + 1, data + i * values.stride(axis));
  }
}

}  // namespace

double ActivateScalar(Activation activation, double x) {
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return x < 0 ? 0 : x;
    case Activation::kGeluTanh:
      return 0.5 * x *
             (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case Activation::kGeluErf:
      return 0.5 * x * std::erfc(-x / std::numbers::sqrt2);
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kQuickGelu:
      return x / (1 + std::exp(-1.702 * x));
    case Activation::kTanh:
      return std::tanh(x);
  }
  return x;
}

void Activate(Context&, Activation activation, TensorView values) {
  ActivateRecursive(activation, values, 0, values.data<float>());
}

}  // namespace tamias::reference
