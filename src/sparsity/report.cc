// Sparsity = 1 - computed / all, summed over layers and over the steps that ran; drift is averaged
// over the layers where it was measured; all of it as JSON.
#include "sparsity/report.h"

#include <nlohmann/json.hpp>
#include <string>

namespace tamias {
namespace {

nlohmann::json ToJson(const StageSeconds& seconds) {
  return {{"attention", seconds.attention},
          {"attention_selection", seconds.attention_selection},
          {"mlp", seconds.mlp},
          {"mlp_selection", seconds.mlp_selection},
          {"step_cache", seconds.step_cache}};
}

nlohmann::json DriftOrNull(double drift) {
  return drift < 0 ? nlohmann::json() : nlohmann::json(drift);
}

nlohmann::json ToJson(const LayerReport& layer) {
  return {{"layer", layer.layer},
          {"invocation", layer.invocation},
          {"attention_sparsity", layer.attention.Sparsity()},
          {"mlp_sparsity", layer.mlp.Sparsity()},
          {"attention_drift", DriftOrNull(layer.attention_drift)},
          {"mlp_drift", DriftOrNull(layer.mlp_drift)},
          {"seconds", ToJson(layer.seconds)}};
}

// The mean over the layers where it was measured; negative: nowhere.
double MeanDrift(const StepReport& step, double LayerReport::*drift) {
  double sum = 0;
  int count = 0;
  for (const LayerReport& layer : step.layers) {
    if (layer.*drift < 0) continue;
    sum += layer.*drift;
    ++count;
  }
  return count > 0 ? sum / count : -1;
}

nlohmann::json ToJson(const StepReport& step) {
  nlohmann::json layers = nlohmann::json::array();
  for (const LayerReport& layer : step.layers) layers.push_back(ToJson(layer));
  return {{"step", step.step},
          {"kind", std::string(Name(step.kind))},
          {"invocations_skipped", step.invocations_skipped},
          {"seconds", step.seconds},
          {"attention_sparsity", step.Attention().Sparsity()},
          {"mlp_sparsity", step.Mlp().Sparsity()},
          {"attention_drift", DriftOrNull(MeanDrift(step, &LayerReport::attention_drift))},
          {"mlp_drift", DriftOrNull(MeanDrift(step, &LayerReport::mlp_drift))},
          {"layers", std::move(layers)}};
}

}  // namespace

WorkCount& WorkCount::operator+=(const WorkCount& other) {
  done += other.done;
  dense += other.dense;
  return *this;
}

StageSeconds& StageSeconds::operator+=(const StageSeconds& other) {
  attention += other.attention;
  attention_selection += other.attention_selection;
  mlp += other.mlp;
  mlp_selection += other.mlp_selection;
  step_cache += other.step_cache;
  return *this;
}

WorkCount StepReport::Attention() const {
  WorkCount work;
  for (const LayerReport& layer : layers) work += layer.attention;
  return work;
}

WorkCount StepReport::Mlp() const {
  WorkCount work;
  for (const LayerReport& layer : layers) work += layer.mlp;
  return work;
}

double SparsityReport::AttentionSparsity() const {
  WorkCount work;
  for (const StepReport& step : steps) work += step.Attention();
  return work.Sparsity();
}

double SparsityReport::MlpSparsity() const {
  WorkCount work;
  for (const StepReport& step : steps) work += step.Mlp();
  return work.Sparsity();
}

StageSeconds SparsityReport::Stages() const {
  StageSeconds seconds;
  for (const StepReport& step : steps) {
    seconds += step.stages;
    for (const LayerReport& layer : step.layers) seconds += layer.seconds;
  }
  return seconds;
}

int64_t SparsityReport::CountSteps(StepKind kind) const {
  int64_t count = 0;
  for (const StepReport& step : steps) count += step.kind == kind ? 1 : 0;
  return count;
}

nlohmann::json SparsityReport::ToJson() const {
  nlohmann::json list = nlohmann::json::array();
  for (const StepReport& step : steps) list.push_back(tamias::ToJson(step));
  return {{"attention_sparsity", AttentionSparsity()},
          {"mlp_sparsity", MlpSparsity()},
          {"full_steps", CountSteps(StepKind::kFull)},
          {"sparse_steps", CountSteps(StepKind::kSparse)},
          {"skipped_steps", CountSteps(StepKind::kSkip)},
          {"state_bytes", state_bytes},
          {"stage_seconds", tamias::ToJson(Stages())},
          {"steps", std::move(list)}};
}

}  // namespace tamias
