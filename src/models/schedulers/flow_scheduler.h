// What a denoising loop sees of a sampler of flow-matching models (Lipman et al., 2210.02747):
// noise levels sigma_0 > ... > sigma_n, the timestep that the model is told at each, and the update
// of the sample from the velocity predicted there. Element-wise, so the sample may have any layout.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// The steps of a generation, one call of the model each; one sigma more than timesteps.
struct FlowSchedule {
  std::vector<float> sigmas;
  std::vector<float> timesteps;
};

// Fills a tensor of the sample's shape and layout with new standard normal numbers, f32.
using NoiseSource = std::function<void(TensorView noise)>;

class FlowScheduler {
 public:
  virtual ~FlowScheduler() = default;

  // Calls of the model. Of second-order schedulers these are more than the steps asked for.
  int num_steps() const { return static_cast<int>(schedule_.timesteps.size()); }
  // The noise level before step `step`; sigma(num_steps()) is the one after the last.
  float sigma(int step) const { return schedule_.sigmas[static_cast<size_t>(step)]; }
  // diffusers' `timesteps`: sigma in units of the training schedule, 1000 at pure noise.
  float timestep(int step) const { return schedule_.timesteps[static_cast<size_t>(step)]; }

  // Takes sample from sigma(step) to sigma(step + 1) with the velocity predicted at sigma(step);
  // two f32 tensors of one shape. A scheduler may keep what it saw, so one object serves one
  // generation, whose steps come in order.
  virtual void Step(Context& context, int step, ConstTensorView prediction, TensorView sample) = 0;

  // Bytes Step keeps from step to step for a sample of `elements` elements.
  virtual size_t HistoryBytes(int64_t elements) const = 0;
  // Whether Step draws new noise, once each time.
  virtual bool DrawsNoise() const { return false; }

 protected:
  // noise: needed by a scheduler that draws some, for its steps only.
  explicit FlowScheduler(FlowSchedule schedule, NoiseSource noise = {})
      : schedule_(std::move(schedule)), noise_(std::move(noise)) {}

  // New noise, valid until the next call.
  ConstTensorView DrawNoise(const Shape& shape);
  // sample = (1 - sigma(step + 1)) x0 + sigma(step + 1) noise, where x0 = sample - sigma(step) v is
  // what the model takes for the result: the step of consistency models (Song et al., 2303.01469).
  void RenewNoise(Context& context, int step, ConstTensorView prediction, TensorView sample);

 private:
  FlowSchedule schedule_;
  NoiseSource noise_;
  Tensor drawn_;
};

// Throws kInvalidArgument when num_steps < 1.
void CheckNumSteps(int num_steps);

// [count] numbers from `first` to `last`, evenly spaced, both included (NumPy's linspace); throws
// kInvalidArgument when count < 1. One number is `first`.
std::vector<double> Linspace(double first, double last, int count);

// Stretches 1 - sigma so that the last sigma becomes `terminal`, below 1; a lone sigma of 1 stays.
template <typename T>
void StretchToTerminal(T terminal, std::vector<T>& sigmas) {
  const T scale = (1 - sigmas.back()) / (1 - terminal);
  if (scale <= 0) return;
  for (T& sigma : sigmas) sigma = 1 - (1 - sigma) / scale;
}

// Noise level sigma with its odds, sigma / (1 - sigma), multiplied by `shift`.
double ShiftSigma(double shift, double sigma);

}  // namespace tamias
