// The denoising of one picture or film: latents from noise, step by step. Holds everything that
// changes from step to step. Symbols: N image tokens, P numbers of a token.
#pragma once

#include <memory>
#include <vector>

#include "models/schedulers/flow_scheduler.h"
#include "pipeline/generation_plan.h"
#include "pipeline/guided_model.h"
#include "pipeline/image_condition.h"
#include "pipeline/model_family.h"
#include "pipeline/packed_latents.h"
#include "pipeline/prompt_embedding.h"
#include "tamias/context.h"
#include "tamias/sparsity/report.h"

namespace tamias {

class PictureDenoising {
 public:
  // resources: of the plan's devices. image: the number of the picture in its generation. family,
  // plan, prompts and condition must outlive this.
  PictureDenoising(const std::vector<std::shared_ptr<DeviceResources>>& resources,
                   const ModelFamily& family, const GenerationPlan& plan,
                   const std::vector<PromptEmbedding>& prompts, const ImageCondition& condition,
                   const GenerateOptions& options, int image);
  PictureDenoising(const PictureDenoising&) = delete;
  PictureDenoising& operator=(const PictureDenoising&) = delete;

  int step() const { return step_; }  // that comes next
  int num_steps() const { return scheduler_->num_steps(); }
  // Runs the next step; on_prediction as in GenerateOptions.
  StepKind Step(const std::function<void(const StepPrediction&)>& on_prediction);

  // The latents [1, N, P] now, in row order.
  Tensor latents();
  // The same as they are kept, in token order.
  ConstTensorView ordered_latents() const { return latents_; }
  // Others in their place, in row order.
  void SetLatents(ConstTensorView latents);
  SparsityReport report() const { return model_.report(); }

 private:
  void ReportPrediction(const std::function<void(const StepPrediction&)>& on_prediction);

  int image_;
  int second_expert_step_;
  int step_ = 0;
  Context host_;  // of noise, scheduler and token order
  NoiseStream noise_;
  std::unique_ptr<FlowScheduler> scheduler_;
  // [1, N, P] f32 each, in token order but for the first.
  Tensor rows_;
  Tensor latents_;
  Tensor prediction_;
  Tensor negative_;  // with guidance
  GuidedModel model_;
};

}  // namespace tamias
