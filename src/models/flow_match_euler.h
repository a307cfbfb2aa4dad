// The flow-matching Euler scheduler (diffusers' FlowMatchEulerDiscreteScheduler, Esser et al.,
// 2403.03206): noise levels sigma_0 = 1 > ... > sigma_n = 0, shifted towards noise by the number of
// image tokens, and the step x <- x + (sigma_{i+1} - sigma_i) v.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/context.h"
#include "base/tensor.h"

namespace tamias {

class JsonObject;

enum class TimeShift { kExponential, kLinear };

struct FlowMatchEulerConfig {
  int64_t num_train_timesteps = 1000;
  double shift = 1.0;                 // used without dynamic shifting
  bool use_dynamic_shifting = false;  // shift by mu, interpolated in the number of image tokens
  double base_shift = 0.5;            // mu at base_image_seq_len tokens
  double max_shift = 1.15;            // mu at max_image_seq_len tokens
  int64_t base_image_seq_len = 256;
  int64_t max_image_seq_len = 4096;
  std::optional<double> shift_terminal;  // the last non-zero sigma, by stretching
  TimeShift time_shift_type = TimeShift::kExponential;

  // Reads scheduler_config.json. Throws kUnsupported naming the field for options that change the
  // schedule in a way Tamias does not serve (Karras, beta or exponential sigmas, stochastic
  // sampling, inverted sigmas).
  static FlowMatchEulerConfig FromJson(const JsonObject& json);
};

class FlowMatchEuler {
 public:
  // The schedule FluxPipeline uses: sigmas linspace(1, 1 / num_steps, num_steps), shifted for
  // image_tokens tokens. Throws kInvalidArgument when num_steps or image_tokens < 1.
  FlowMatchEuler(const FlowMatchEulerConfig& config, int num_steps, int64_t image_tokens);

  int num_steps() const { return static_cast<int>(sigmas_.size()) - 1; }
  // The noise level before step `step`; sigma(num_steps()) is 0.
  float sigma(int step) const { return sigmas_[static_cast<size_t>(step)]; }
  // sigma times num_train_timesteps, as diffusers' `timesteps`; FluxTransformer takes a thousandth.
  float timestep(int step) const { return sigma(step) * num_train_timesteps_; }

  // sample += (sigma(step + 1) - sigma(step)) * prediction; two f32 tensors of one shape.
  void Step(Context& context, int step, ConstTensorView prediction, TensorView sample) const;

 private:
  std::vector<float> sigmas_;
  float num_train_timesteps_;
};

}  // namespace tamias
