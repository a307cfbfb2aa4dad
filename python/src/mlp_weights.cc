// Views of an MLP's weights, and the transposed copy of the second.
#include "mlp_weights.h"

#include <array>
#include <string>
#include <utility>

#include "tamias/device_memory.h"
#include "tamias/error.h"
#include "tamias/ops/copy.h"
#include "tamias/ops/elementwise.h"

namespace tamias::python {
namespace {

constexpr std::array<std::pair<std::string_view, Activation>, 7> kActivations = {{
    {"none", Activation::kNone},
    {"relu", Activation::kRelu},
    {"gelu_tanh", Activation::kGeluTanh},
    {"gelu", Activation::kGeluErf},
    {"silu", Activation::kSilu},
    {"quick_gelu", Activation::kQuickGelu},
    {"tanh", Activation::kTanh},
}};

Tensor Converted(Context& context, ConstTensorView input, DType dtype) {
  Tensor output = TensorOn(context, input.shape(), dtype);
  Convert(context, input, output);
  return output;
}

Tensor Transposed(Context& context, ConstTensorView weight) {
  const Tensor floats = Converted(context, weight, DType::kF32);
  Tensor transposed = TensorOn(context, {weight.dim(1), weight.dim(0)}, DType::kF32);
  Copy(context, floats.view().Permute({1, 0}), transposed);
  if (context.activation_dtype() != DType::kF32) {
    transposed = Converted(context, transposed, context.activation_dtype());
  }
  context.Synchronize();  // other queues read it, too, and what it was made of goes
  return transposed;
}

}  // namespace

Activation ActivationOf(std::string_view name) {
  std::string known;
  for (const auto& [known_name, activation] : kActivations) {
    if (known_name == name) return activation;
    known += (known.empty() ? "" : ", ") + std::string(known_name);
  }
  throw Error(ErrorCode::kInvalidArgument,
              "activation: expected one of " + known + ", found '" + std::string(name) + "'");
}

OwnedMlpWeights::OwnedMlpWeights(ConstArray fc1_weight, ConstArray fc2_weight,
                                 OptionalConstArray fc1_bias, OptionalConstArray fc2_bias,
                                 std::string_view activation, bool gated, bool gate_first)
    : fc1_weight_(std::move(fc1_weight)),
      fc2_weight_(std::move(fc2_weight)),
      fc1_bias_(std::move(fc1_bias)),
      fc2_bias_(std::move(fc2_bias)) {
  weights_.fc1_weight = ViewOf(fc1_weight_, "fc1_weight");
  weights_.fc1_bias = ViewOf(fc1_bias_, "fc1_bias");
  weights_.fc2_weight = ViewOf(fc2_weight_, "fc2_weight");
  weights_.fc2_bias = ViewOf(fc2_bias_, "fc2_bias");
  weights_.activation = ActivationOf(activation);
  weights_.gated = gated;
  weights_.gate_first = gate_first;
  if (weights_.fc2_weight.rank() != 2) {
    throw Error(ErrorCode::kInvalidArgument,
                "fc2_weight: expected [d, F], found " + weights_.fc2_weight.shape().ToString());
  }
}

MlpWeights OwnedMlpWeights::ForSparseSteps(Context& context) {
  const std::lock_guard lock(mutex_);
  Tensor& transposed = transposed_[context.activation_dtype()];
  if (transposed.empty()) transposed = Transposed(context, weights_.fc2_weight);
  MlpWeights weights = weights_;
  weights.fc2_weight_transposed = transposed;
  return weights;
}

}  // namespace tamias::python
