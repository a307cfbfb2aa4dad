// The denoiser of a transformer that takes rotary tables: one forward pass over packed latents,
// with what stays the same from step to step held here.
#pragma once

#include <utility>

#include "base/device_memory.h"
#include "models/transformers/rotary_positions.h"
#include "pipeline/denoising_pipeline.h"

namespace tamias {

// Inputs: the transformer's; its pooled_projections are filled where it has them.
template <typename Transformer, typename Inputs>
class RotaryDenoiser final : public Denoiser {
 public:
  // The transformer lies on the context's device, where the rotary table is copied to.
  // constants: inputs that do not change, such as the guidance scale. The transformer's timesteps
  // are the scheduler's divided by timestep_divisor.
  RotaryDenoiser(const Context& context, const Transformer& transformer, RotaryTable rotary,
                 Inputs constants = {}, float timestep_divisor = 1)
      : transformer_(transformer),
        rotary_(std::move(rotary)),
        constants_(std::move(constants)),
        timestep_divisor_(timestep_divisor) {
    if (!context.IsOnGpu()) return;
    rotary_.cos = CopyToDevice(context, rotary_.cos);
    rotary_.sin = CopyToDevice(context, rotary_.sin);
  }

  void Predict(Context& context, float timestep, const PromptEmbedding& prompt,
               ConstTensorView latents, SparseInvocation& invocation,
               TensorView prediction) const override {
    Inputs inputs = constants_;
    inputs.hidden_states = latents;
    inputs.encoder_hidden_states = prompt.sequence;
    if constexpr (requires { inputs.pooled_projections; }) {
      inputs.pooled_projections = prompt.pooled;
    }
    inputs.timestep = timestep / timestep_divisor_;
    inputs.rotary_cos = rotary_.cos;
    inputs.rotary_sin = rotary_.sin;
    transformer_.Forward(context, inputs, invocation, prediction);
  }

 private:
  const Transformer& transformer_;
  RotaryTable rotary_;
  Inputs constants_;
  float timestep_divisor_;
};

}  // namespace tamias
