// Latents up, one call of the transformer after another, predictions down.
#include "pipeline/device_invocations.h"

#include <utility>

namespace tamias {
namespace {

TensorView OwnTokens(TensorView all, const DeviceInvocations::Work& work) {
  const TokenRange own = work.geometries.front().own_image();
  return all.Slice(1, own.begin, own.end);
}

}  // namespace

void DeviceInvocations::Work::Add(const ModelFamily& family, const GenerationPlan& plan, int rank,
                                  int64_t text_tokens, const Invocation& invocation) {
  SparseGeometry geometry = family.Geometry(text_tokens, plan.latents.grid());
  geometry.rank = rank;
  geometry.rank_bounds = plan.rank_bounds;
  geometries.push_back(std::move(geometry));
  invocations.push_back(invocation);
}

DeviceInvocations::DeviceInvocations(Context& context, const ModelFamily& family,
                                     const GenerationPlan& plan, const ImageCondition& condition,
                                     TensorView latents, const Work& work)
    : context_(context),
      session_(context, plan.sparsity, work.geometries, plan.state_place, work.exchange),
      denoiser_(family.MakeDenoiser(context, plan.settings, plan.latents,
                                    {session_.token_order(), work.geometries.front().own_image()},
                                    condition)),
      latents_(context, OwnTokens(latents, work)) {
  for (const Invocation& invocation : work.invocations) {
    predictions_.emplace_back(context, OwnTokens(invocation.prediction, work));
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
