// x(step + 1) = scheduler(x(step), velocity): the model runs on the plan's devices, noise,
// scheduler and guidance on the host.
#include "pipeline/picture_denoising.h"

namespace tamias {
namespace {

Shape ShapeOf(const LatentShape& latents) {
  return {1, latents.tokens(), latents.token_channels()};
}

}  // namespace

PictureDenoising::PictureDenoising(const std::vector<std::shared_ptr<DeviceResources>>& resources,
                                   const ModelFamily& family, const GenerationPlan& plan,
                                   const std::vector<PromptEmbedding>& prompts,
                                   const ImageCondition& condition, const GenerateOptions& options,
                                   int image)
    : image_(image),
      second_expert_step_(plan.second_expert_step),
      host_(plan.threads),
      noise_(plan.latents, options.seed, image, options.num_images),
      scheduler_(family.scheduler().Make(
          plan.settings.steps, plan.latents.tokens(),
          [this, packed = family.scheduler().conventions().draws_packed_noise](TensorView drawn) {
            model_.token_order().Apply(host_, packed ? noise_.NextPacked() : noise_.NextLatents(),
                                       drawn);
          })),
      rows_(noise_.NextLatents()),
      latents_(ShapeOf(plan.latents), DType::kF32),
      prediction_(Tensor::Zeros(ShapeOf(plan.latents), DType::kF32)),
      negative_(plan.settings.use_true_cfg() ? ShapeOf(plan.latents) : Shape{0}, DType::kF32),
      model_(resources, family, plan, prompts, condition,
             {.latents = latents_, .prediction = prediction_, .negative = negative_}) {
  model_.token_order().Apply(host_, rows_, latents_);
  if (options.initial_latents.empty()) return;
  const Latents& initial = options.initial_latents[static_cast<size_t>(image)];
  SetLatents(ConstTensorView(initial.values.data(), DType::kF32, ShapeOf(plan.latents)));
}

StepKind PictureDenoising::Step(const std::function<void(const StepPrediction&)>& on_prediction) {
  if (step_ > 0 && step_ == second_expert_step_) model_.Restart();
  model_.BeginStep(step_, scheduler_->sigma(step_));
  model_.Predict(scheduler_->timestep(step_));
  if (on_prediction) ReportPrediction(on_prediction);
  scheduler_->Step(host_, step_, prediction_, latents_);
  ++step_;
  return model_.EndStep();
}

void PictureDenoising::ReportPrediction(
    const std::function<void(const StepPrediction&)>& on_prediction) {
  model_.token_order().Invert(host_, prediction_, rows_);
  on_prediction({.image = image_,
                 .step = step_,
                 .sigma = scheduler_->sigma(step_),
                 .next_sigma = scheduler_->sigma(step_ + 1),
                 .values = {rows_.host_data<float>(), static_cast<size_t>(rows_.NumElements())}});
}

Tensor PictureDenoising::latents() {
  Tensor rows(latents_.shape(), DType::kF32);
  model_.token_order().Invert(host_, latents_, rows);
  return rows;
}

void PictureDenoising::SetLatents(ConstTensorView latents) {
  model_.token_order().Apply(host_, latents, latents_);
}

}  // namespace tamias
