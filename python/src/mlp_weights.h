// The weights of an MLP as arrays of Python, kept alive, with what sparse steps need of them.
#pragma once

#include <map>
#include <mutex>
#include <string_view>

#include "arrays.h"
#include "tamias/context.h"
#include "tamias/ops/column_sparse_mlp.h"

namespace tamias::python {

// By its name: "none", "relu", "gelu_tanh", "gelu", "silu", "quick_gelu", "tanh". Throws
// kInvalidArgument.
Activation ActivationOf(std::string_view name);

class OwnedMlpWeights {
 public:
  // As MlpWeights, without copies: fc1_weight [F, d] (gated [2F, d]), fc2_weight [d, F].
  // activation as ActivationOf. Throws kInvalidArgument.
  OwnedMlpWeights(ConstArray fc1_weight, ConstArray fc2_weight, OptionalConstArray fc1_bias,
                  OptionalConstArray fc2_bias, std::string_view activation, bool gated,
                  bool gate_first);

  // For full steps.
  const MlpWeights& dense() const { return weights_; }
  // With fc2 transposed in the type and on the device of the context's activations, which is made
  // once for each.
  MlpWeights ForSparseSteps(Context& context);

 private:
  ConstArray fc1_weight_, fc2_weight_;
  OptionalConstArray fc1_bias_, fc2_bias_;
  MlpWeights weights_;
  std::mutex mutex_;                    // of what is below
  std::map<DType, Tensor> transposed_;  // by its type
};

}  // namespace tamias::python
