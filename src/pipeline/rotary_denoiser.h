// The denoiser of a transformer that takes rotary tables: one forward pass over packed latents,
// with what stays the same from step to step held here.
#pragma once

#include <utility>

#include "models/transformers/rotary_positions.h"
#include "pipeline/denoiser.h"
#include "pipeline/model_on_devices.h"

namespace tamias {

// Inputs: the transformer's; its pooled_projections are filled where it has them.
template <typename Transformer, typename Inputs>
class RotaryDenoiser final : public Denoiser {
 public:
  // The transformer must be on the device of the rotary tables when it predicts, not before.
  // constants: inputs that do not change, such as the guidance scale. The transformer's timesteps
  // are the scheduler's divided by timestep_divisor.
  RotaryDenoiser(const ModelOnDevices<Transformer>& transformer, const RotaryTable& rotary,
                 Inputs constants = {}, float timestep_divisor = 1)
      : transformer_(transformer),
        constants_(std::move(constants)),
        timestep_divisor_(timestep_divisor) {
    constants_.rotary_cos = rotary.cos;
    constants_.rotary_sin = rotary.sin;
  }

  void Predict(Context& context, float timestep, const PromptViews& prompt, ConstTensorView latents,
               SparseInvocation& invocation, TensorView prediction) const override {
    Inputs inputs = constants_;
    inputs.hidden_states = latents;
    inputs.encoder_hidden_states = prompt.sequence;
    if constexpr (requires { inputs.pooled_projections; }) {
      inputs.pooled_projections = prompt.pooled;
    }
    inputs.timestep = timestep / timestep_divisor_;
    transformer_.On(context).Forward(context, inputs, invocation, prediction);
  }

 private:
  const ModelOnDevices<Transformer>& transformer_;
  Inputs constants_;
  float timestep_divisor_;
};

}  // namespace tamias
