// The flow-matching Euler scheduler (diffusers' FlowMatchEulerDiscreteScheduler, Esser et al.,
// 2403.03206): noise levels sigma_0 = 1 > ... > sigma_n = 0, shifted towards noise by a constant or
// by the number of image tokens, and the step x <- x + (sigma_{i+1} - sigma_i) v.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "models/flow_scheduler.h"

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
  // Mochi: the model knows 1 - sigma, which runs from 0 to 1, and predicts the opposite velocity.
  bool invert_sigmas = false;

  // Reads scheduler_config.json. Throws kUnsupported naming the field for options that change the
  // schedule in a way Tamias does not serve (Karras, beta or exponential sigmas, stochastic
  // sampling).
  static FlowMatchEulerConfig FromJson(const JsonObject& json);
};

// The sigmas, before shifting, of the pipelines that state them: FLUX, linspace(1, 1 / n, n), and
// HunyuanVideo, the same numbers written linspace(1, 0, n + 1) without the last.
std::vector<double> EvenSigmas(int num_steps);
// The sigmas, before shifting, of the pipelines that leave them to diffusers' scheduler (Wan): even
// between the largest and the smallest level of training, which are shifted already.
std::vector<double> TrainingRangeSigmas(const FlowMatchEulerConfig& config, int num_steps);

class FlowMatchEuler final : public FlowScheduler {
 public:
  // The schedule through the given noise levels, not shifted yet (diffusers'
  // set_timesteps(sigmas)). Dynamic shifting needs the number of image tokens: without it throws
  // kUnsupported, as the video pipelines have no rule for it.
  FlowMatchEuler(const FlowMatchEulerConfig& config, const std::vector<double>& sigmas,
                 std::optional<int64_t> image_tokens = {});
  // EvenSigmas shifted for image_tokens tokens. Throws kInvalidArgument when num_steps or
  // image_tokens < 1.
  FlowMatchEuler(const FlowMatchEulerConfig& config, int num_steps, int64_t image_tokens);

  // sample += (sigma(step + 1) - sigma(step)) * prediction.
  void Step(Context& context, int step, ConstTensorView prediction, TensorView sample) override;
  size_t HistoryBytes(int64_t) const override { return 0; }

 private:
  struct Shifted {
    std::vector<float> sigmas;
  };
  FlowMatchEuler(const FlowMatchEulerConfig& config, const Shifted& shifted);
};

}  // namespace tamias
