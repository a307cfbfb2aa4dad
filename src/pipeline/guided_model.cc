// prediction <- negative + scale (prediction - negative), on the host: it is small. A thread of the
// host for each device: a call of the transformer waits for its GPU where it selects columns, and
// where more is enqueued than the GPU's queue holds, and ranks wait for each other.
#include "pipeline/guided_model.h"

#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>

#include "pipeline/model_family.h"

namespace tamias {
namespace {

void Guide(double scale, ConstTensorView negative, TensorView prediction) {
  const auto s = static_cast<float>(scale);
  const float* from = negative.host_data<float>();
  float* to = prediction.host_data<float>();
  for (int64_t i = 0; i < prediction.NumElements(); ++i) to[i] = from[i] + s * (to[i] - from[i]);
}

// Adds what another device did on the same step: as another rank of the invocations that `all` has
// from `first_layer` on, or, where that is the end, as invocations that follow them.
void AddDevice(const StepReport& step, size_t first_layer, StepReport& all) {
  if (step.kind != StepKind::kSkip) all.kind = step.kind;  // they skip by their own measure
  all.seconds = std::max(all.seconds, step.seconds);
  all.stages += step.stages;
  all.exchanged_bytes += step.exchanged_bytes;
  if (first_layer == all.layers.size()) {
    const int num_invocations = all.layers.back().invocation + 1;
    all.invocations_skipped += step.invocations_skipped;
    for (LayerReport layer : step.layers) {
      layer.invocation += num_invocations;
      all.layers.push_back(layer);
    }
    return;
  }
  for (size_t i = 0; i < step.layers.size(); ++i) {
    LayerReport& layer = all.layers[first_layer + i];
    const LayerReport& own = step.layers[i];
    layer.attention += own.attention;
    layer.mlp += own.mlp;
    layer.attention_drift += own.attention_drift;
    layer.mlp_drift += own.mlp_drift;
    layer.seconds += own.seconds;
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
      tensors_(tensors),
      num_ranks_(plan.num_ranks()) {
  const auto per_device = static_cast<size_t>(plan.invocations_per_device());
  for (size_t device = 0; device < plan.devices.size(); ++device) {
    const size_t first = device / static_cast<size_t>(num_ranks_) * per_device;
    if (num_ranks_ > 1 && plan.RankOf(device) == 0) {
      const auto begin = plan.devices.begin() + static_cast<std::ptrdiff_t>(device);
      exchanges_.push_back(std::make_shared<RankExchange>(Devices(begin, begin + num_ranks_)));
    }
    DeviceInvocations::Work work;
    if (num_ranks_ > 1) work.exchange = exchanges_.back();
    for (size_t i = first; i < first + per_device; ++i) {
      work.Add(family, plan, plan.RankOf(device), prompts[i].sequence.dim(1),
               {&prompts[i], i == 0 ? tensors.prediction : tensors.negative});
    }
    Placement placement = plan.placement;
    placement.device = plan.devices[device];
    Context& context = contexts_.emplace_back(resources[device], placement, plan.threads,
                                              plan.ShareOf(device).workspace);
    devices_.emplace_back(context, family, plan, condition, tensors.latents, work);
  }
}

// What a device that failed has enqueued, others may still read.
GuidedModel::~GuidedModel() {
  for (const Context& context : contexts_) {
    try {
      context.Synchronize();
    } catch (const Error&) {
      // What failed is said where the work is waited for.
    }
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
  for (const auto& exchange : exchanges_) exchange->Reset();
  std::mutex mutex;
  std::exception_ptr error;  // the first: others may fail because of it
  const auto guarded = [&](const auto& work) {
    try {
      work();
    } catch (...) {
      {
        const std::lock_guard lock(mutex);
        if (error == nullptr) error = std::current_exception();
      }
      for (const auto& exchange : exchanges_) exchange->Abandon();
    }
  };
  {
    std::vector<std::jthread> others;
    guarded([&] {
      for (size_t i = 1; i < devices_.size(); ++i) {
        others.emplace_back([&, i] { guarded([&] { devices_[i].Predict(timestep); }); });
      }
      devices_.front().Predict(timestep);
    });
  }
  if (error != nullptr) std::rethrow_exception(error);
  if (!is_guided_) return;
  const auto expert = static_cast<size_t>(family_.ExpertAt(timestep));
  Guide(scales_[expert], tensors_.negative, tensors_.prediction);
}

SparsityReport GuidedModel::report() const {
  SparsityReport all = devices_.front().session().report();
  for (size_t device = 1; device < devices_.size(); ++device) {
    const SparsityReport& own = devices_[device].session().report();
    const bool is_rank = device % static_cast<size_t>(num_ranks_) != 0;
    for (size_t step = 0; step < all.steps.size(); ++step) {
      StepReport& together = all.steps[step];
      const size_t layers = own.steps[step].layers.size();
      AddDevice(own.steps[step], together.layers.size() - (is_rank ? layers : 0), together);
    }
    all.state_bytes += own.state_bytes;
  }
  return all;
}

}  // namespace tamias
