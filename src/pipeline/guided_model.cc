// prediction <- negative + scale (prediction - negative), on the host: it is small.
#include "pipeline/guided_model.h"

#include "pipeline/generation_plan.h"
#include "pipeline/model_family.h"

namespace tamias {
namespace {

void Guide(double scale, ConstTensorView negative, TensorView prediction) {
  const auto s = static_cast<float>(scale);
  const float* from = negative.host_data<float>();
  float* to = prediction.host_data<float>();
  for (int64_t i = 0; i < prediction.NumElements(); ++i) to[i] = from[i] + s * (to[i] - from[i]);
}

}  // namespace

GuidedModel::GuidedModel(Context& context, const ModelFamily& family, const GenerationPlan& plan,
                         const std::vector<PromptEmbedding>& prompts,
                         const ImageCondition& condition, const TokenOrder& order,
                         const StepTensors& tensors)
    : family_(family),
      scales_{plan.settings.true_cfg_scale,
              plan.settings.true_cfg_scale_2.value_or(plan.settings.true_cfg_scale)},
      tensors_(tensors),
      denoiser_(family.MakeDenoiser(context, plan.settings, plan.latents, order, condition)),
      latents_(context, tensors.latents),
      prediction_(context, tensors.prediction) {
  if (plan.settings.use_true_cfg()) negative_.emplace(context, tensors.negative);
  for (const PromptEmbedding& prompt : prompts) prompts_.push_back(OnDevice(context, prompt));
}

void GuidedModel::Predict(Context& context, float timestep, SparseSession& session) {
  latents_.Upload(context);
  Call(context, 0, timestep, session, prediction_);
  if (negative_) Call(context, 1, timestep, session, *negative_);
  if (context.IsPlanning()) return;
  context.Synchronize();
  if (!negative_) return;
  const auto expert = static_cast<size_t>(family_.ExpertAt(timestep));
  Guide(scales_[expert], tensors_.negative, tensors_.prediction);
}

void GuidedModel::Call(Context& context, int invocation, float timestep, SparseSession& session,
                       const DeviceMirror& prediction) const {
  denoiser_->Predict(context, timestep, prompts_[static_cast<size_t>(invocation)],
                     latents_.device(), session.invocation(invocation), prediction.device());
  prediction.EnqueueDownload(context);
}

}  // namespace tamias
