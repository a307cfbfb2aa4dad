// One step of a guided model of a CallingFamily: its tensors and plan, begun at timestep 10.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "pipeline/guided_model.h"
#include "tests/support/calling_family.h"

namespace tamias {

class GuidedStep {
 public:
  // plan: of the devices and their shares, without latents and sparsity, which are dense ones.
  // Latents are 1.
  GuidedStep(const CallingFamily& family, GenerationPlan plan, std::vector<PromptEmbedding> prompts)
      : plan_(Complete(family, std::move(plan))),
        prompts_(std::move(prompts)),
        shape_{1, plan_.latents.tokens(), plan_.latents.token_channels()},
        model_(Resources(plan_), family, plan_, prompts_, condition_,
               {.latents = latents_, .prediction = prediction_, .negative = negative_}) {
    std::fill_n(latents_.host_data<float>(), latents_.NumElements(), 1.0f);
    model_.BeginStep(0, 1.0);
  }

  void Predict() { model_.Predict(10); }
  StepKind End() { return model_.EndStep(); }
  std::vector<float> prediction() const {
    const float* values = prediction_.host_data<float>();
    return {values, values + prediction_.NumElements()};
  }
  SparsityReport report() const { return model_.report(); }

 private:
  static GenerationPlan Complete(const CallingFamily& family, GenerationPlan plan) {
    plan.latents = family.LatentsOf(plan.settings);
    plan.sparsity = SparsityConfig::Dense();
    return plan;
  }
  static std::vector<std::shared_ptr<DeviceResources>> Resources(const GenerationPlan& plan) {
    std::vector<std::shared_ptr<DeviceResources>> resources;
    for (const Device device : plan.devices) {
      resources.push_back(std::make_shared<DeviceResources>(device));
    }
    return resources;
  }

  const GenerationPlan plan_;
  const std::vector<PromptEmbedding> prompts_;
  const ImageCondition condition_;
  const Shape shape_;
  Tensor latents_{shape_, DType::kF32}, prediction_{shape_, DType::kF32},
      negative_{shape_, DType::kF32};
  GuidedModel model_;
};

}  // namespace tamias
