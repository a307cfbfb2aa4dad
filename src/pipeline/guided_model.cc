// prediction <- negative + scale (prediction - negative), on the host: it is small. A thread of the
// host for each device: a call of the transformer waits for its GPU where it selects columns, and
// where more is enqueued than the GPU's queue holds.
#include "pipeline/guided_model.h"

#include <algorithm>
#include <future>
#include <iterator>

#include "pipeline/model_family.h"

namespace tamias {
namespace {

void Guide(double scale, ConstTensorView negative, TensorView prediction) {
  const auto s = static_cast<float>(scale);
  const float* from = negative.host_data<float>();
  float* to = prediction.host_data<float>();
  for (int64_t i = 0; i < prediction.NumElements(); ++i) to[i] = from[i] + s * (to[i] - from[i]);
}

// Adds what another device's invocations, which follow those of `all`, did on the same step.
void AddInvocations(const StepReport& step, int num_invocations, StepReport& all) {
  if (step.kind != StepKind::kSkip) all.kind = step.kind;  // they skip by their own measure
  all.invocations_skipped += step.invocations_skipped;
  all.seconds = std::max(all.seconds, step.seconds);
  all.stages += step.stages;
  for (LayerReport layer : step.layers) {
    layer.invocation += num_invocations;
    all.layers.push_back(layer);
  }
}

}  // namespace

GuidedModel::GuidedModel(const std::vector<std::shared_ptr<DeviceResources>>& resources,
                         const ModelFamily& family, const GenerationPlan& plan,
                         const std::vector<PromptEmbedding>& prompts,
                         const ImageCondition& condition, const StepTensors& tensors)
    : family_(family),
      is_guided_(plan.settings.use_true_cfg()),
      scales_{plan.settings.true_cfg_scale,
              plan.settings.true_cfg_scale_2.value_or(plan.settings.true_cfg_scale)},
      tensors_(tensors) {
  const auto per_device = static_cast<size_t>(plan.invocations_per_device());
  for (size_t first = 0; first < prompts.size(); first += per_device) {
    std::vector<DeviceInvocations::Invocation> invocations;
    std::vector<SparseGeometry> geometries;
    for (size_t i = first; i < first + per_device; ++i) {
      invocations.push_back({&prompts[i], i == 0 ? tensors.prediction : tensors.negative});
      geometries.push_back(family.Geometry(prompts[i].sequence.dim(1), plan.latents.grid()));
    }
    Placement placement = plan.placement;
    placement.device = plan.devices[devices_.size()];
    Context& context = contexts_.emplace_back(resources[devices_.size()], placement, plan.threads,
                                              plan.denoising_workspace);
    devices_.emplace_back(context, family, plan, geometries, condition, tensors.latents,
                          invocations);
  }
}

void GuidedModel::BeginStep(int64_t step, std::optional<double> time) {
  for (DeviceInvocations& device : devices_) device.session().BeginStep(step, time);
}

StepKind GuidedModel::EndStep() {
  StepKind kind = StepKind::kSkip;
  for (DeviceInvocations& device : devices_) {
    device.session().EndStep();
    const StepKind own = device.session().report().steps.back().kind;
    if (own != StepKind::kSkip) kind = own;
  }
  return kind;
}

void GuidedModel::Restart() {
  for (DeviceInvocations& device : devices_) device.session().Restart();
}

void GuidedModel::Predict(float timestep) {
  std::vector<std::future<void>> others;  // waited for when one of them fails, too
  for (size_t i = 1; i < devices_.size(); ++i) {
    others.push_back(std::async(std::launch::async,
                                [&device = devices_[i], timestep] { device.Predict(timestep); }));
  }
  devices_.front().Predict(timestep);
  for (std::future<void>& other : others) other.get();
  if (!is_guided_) return;
  const auto expert = static_cast<size_t>(family_.ExpertAt(timestep));
  Guide(scales_[expert], tensors_.negative, tensors_.prediction);
}

SparsityReport GuidedModel::report() const {
  SparsityReport all = devices_.front().session().report();
  int num_invocations = devices_.front().session().num_invocations();
  for (auto device = std::next(devices_.begin()); device != devices_.end(); ++device) {
    const SparseSession& session = device->session();
    for (size_t step = 0; step < all.steps.size(); ++step) {
      AddInvocations(session.report().steps[step], num_invocations, all.steps[step]);
    }
    num_invocations += session.num_invocations();
    all.state_bytes += session.report().state_bytes;
  }
  return all;
}

}  // namespace tamias
