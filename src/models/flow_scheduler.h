// What a denoising loop sees of a sampler of flow-matching models (Lipman et al., 2210.02747):
// noise levels sigma_0 > ... > sigma_n, the timestep that the model is told at each, and the update
// of the sample from the velocity predicted there. Element-wise, so the sample may have any layout.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/context.h"
#include "base/tensor.h"

namespace tamias {

class FlowScheduler {
 public:
  virtual ~FlowScheduler() = default;

  int num_steps() const { return static_cast<int>(timesteps_.size()); }
  // The noise level before step `step`; sigma(num_steps()) is the one after the last.
  float sigma(int step) const { return sigmas_[static_cast<size_t>(step)]; }
  // diffusers' `timesteps`: sigma in units of the training schedule, 1000 at pure noise.
  float timestep(int step) const { return timesteps_[static_cast<size_t>(step)]; }

  // Takes sample from sigma(step) to sigma(step + 1) with the velocity predicted at sigma(step);
  // two f32 tensors of one shape. A scheduler may keep what it saw, so one object serves one
  // generation, whose steps come in order.
  virtual void Step(Context& context, int step, ConstTensorView prediction, TensorView sample) = 0;

  // Bytes Step keeps from step to step for a sample of `elements` elements.
  virtual size_t HistoryBytes(int64_t elements) const = 0;

 protected:
  // One sigma more than timesteps.
  FlowScheduler(std::vector<float> sigmas, std::vector<float> timesteps)
      : sigmas_(std::move(sigmas)), timesteps_(std::move(timesteps)) {}

 private:
  std::vector<float> sigmas_;
  std::vector<float> timesteps_;
};

// [count] numbers from `first` to `last`, evenly spaced, both included (NumPy's linspace); throws
// kInvalidArgument when count < 1. One number is `first`.
std::vector<double> Linspace(double first, double last, int count);

}  // namespace tamias
