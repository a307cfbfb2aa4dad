// The model as the denoising loop sees it: the prediction of one step, with classifier-free
// guidance from two calls of the transformer (Ho and Salimans, arXiv 2207.12598), on whatever
// device it runs. Symbols: N image tokens, P numbers of a token.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "pipeline/denoiser.h"
#include "pipeline/generation_settings.h"
#include "pipeline/image_condition.h"
#include "pipeline/packed_latents.h"
#include "pipeline/prompt_embedding.h"
#include "tamias/context.h"
#include "tamias/device_memory.h"
#include "tamias/sparsity/sparse_session.h"

namespace tamias {

class ModelFamily;
struct GenerationPlan;

// The host's tensors [1, N, P] f32, in token order, that a step reads and writes.
struct StepTensors {
  TensorView latents;
  TensorView prediction;
  TensorView negative;  // of the negative prompt; unused without guidance
};

class GuidedModel {
 public:
  // prompts: one for each invocation. Keeps what it holds in the context's workspace, in the
  // caller's scope; family, condition and tensors must outlive it.
  GuidedModel(Context& context, const ModelFamily& family, const GenerationPlan& plan,
              const std::vector<PromptEmbedding>& prompts, const ImageCondition& condition,
              const TokenOrder& order, const StepTensors& tensors);

  // tensors.prediction = the velocity of tensors.latents at the timestep: with guidance
  // negative + scale (positive - negative), with the scale of the transformer of this timestep.
  // Waits for the device once.
  void Predict(Context& context, float timestep, SparseSession& session);

 private:
  void Call(Context& context, int invocation, float timestep, SparseSession& session,
            const DeviceMirror& prediction) const;

  const ModelFamily& family_;
  std::array<double, 2> scales_;  // of the guidance, by expert
  StepTensors tensors_;
  std::vector<PromptViews> prompts_;
  std::unique_ptr<Denoiser> denoiser_;
  DeviceMirror latents_;
  DeviceMirror prediction_;
  std::optional<DeviceMirror> negative_;  // with guidance
};

}  // namespace tamias
