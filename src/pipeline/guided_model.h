// The model as the denoising loop sees it: the prediction of one step, with classifier-free
// guidance from two calls of the transformer (Ho and Salimans, arXiv 2207.12598), one after another
// on one device, at once on two, or each shared by several, and what the calls keep from step to
// step. Symbols: N image tokens, P numbers of a token.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "pipeline/device_invocations.h"
#include "pipeline/generation_plan.h"
#include "pipeline/image_condition.h"
#include "pipeline/prompt_embedding.h"
#include "sparsity/rank_exchange.h"
#include "tamias/context.h"
#include "tamias/sparsity/report.h"
#include "tamias/sparsity/token_order.h"

namespace tamias {

class ModelFamily;

// The host's tensors [1, N, P] f32, in token order, that a step reads and writes.
struct StepTensors {
  TensorView latents;
  TensorView prediction;
  TensorView negative;  // of the negative prompt; unused without guidance
};

class GuidedModel {
 public:
  // resources: of the plan's devices. prompts: one for each invocation. family, plan, prompts,
  // condition and tensors must outlive it.
  GuidedModel(const std::vector<std::shared_ptr<DeviceResources>>& resources,
              const ModelFamily& family, const GenerationPlan& plan,
              const std::vector<PromptEmbedding>& prompts, const ImageCondition& condition,
              const StepTensors& tensors);
  ~GuidedModel();
  GuidedModel(const GuidedModel&) = delete;
  GuidedModel& operator=(const GuidedModel&) = delete;

  const TokenOrder& token_order() const { return devices_.front().session().token_order(); }

  // As SparseSession's.
  void BeginStep(int64_t step, std::optional<double> time);
  StepKind EndStep();
  void Restart();

  // tensors.prediction = the velocity of tensors.latents at the timestep: with guidance
  // negative + scale (positive - negative), with the scale of the transformer of this timestep.
  // Between BeginStep and EndStep. Waits for each device once. Throws what the first device that
  // failed did.
  void Predict(float timestep);

  // Of all invocations.
  SparsityReport report() const;

 private:
  const ModelFamily& family_;
  bool is_guided_;
  std::array<double, 2> scales_;  // of the guidance, by expert
  StepTensors tensors_;
  int num_ranks_;                                         // devices that share an invocation
  std::vector<std::shared_ptr<RankExchange>> exchanges_;  // of the shared invocations
  std::deque<Context> contexts_;                          // of the devices
  std::deque<DeviceInvocations> devices_;  // each the next invocations, or the next rank of one
};

}  // namespace tamias
