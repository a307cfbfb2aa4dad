// Latents up, one call of the transformer after another, predictions down.
#include "pipeline/device_invocations.h"

namespace tamias {

DeviceInvocations::DeviceInvocations(Context& context, const ModelFamily& family,
                                     const GenerationPlan& plan,
                                     const std::vector<SparseGeometry>& geometries,
                                     const ImageCondition& condition, TensorView latents,
                                     std::span<const Invocation> invocations)
    : context_(context),
      session_(context, plan.sparsity, geometries, plan.state_place),
      denoiser_(family.MakeDenoiser(context, plan.settings, plan.latents, session_.token_order(),
                                    condition)),
      latents_(context, latents) {
  for (const Invocation& invocation : invocations) {
    predictions_.emplace_back(context, invocation.prediction);
    prompts_.push_back(OnDevice(context, *invocation.prompt));
  }
}

void DeviceInvocations::Predict(float timestep) {
  latents_.Upload(context_);
  for (size_t i = 0; i < predictions_.size(); ++i) {
    denoiser_->Predict(context_, timestep, prompts_[i], latents_.device(),
                       session_.invocation(static_cast<int>(i)), predictions_[i].device());
    predictions_[i].EnqueueDownload(context_);
  }
  if (!context_.IsPlanning()) context_.Synchronize();
}

}  // namespace tamias
