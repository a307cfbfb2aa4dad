// Drift is averaged over the layers where it was measured.
#include "sparsity/report_json.h"

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

// Negative: not measured.
nlohmann::json DriftOrNull(double drift) {
  return drift < 0 ? nlohmann::json() : nlohmann::json(drift);
}

nlohmann::json ToJson(const LayerReport& layer) {
  return {{"layer", layer.layer},
          {"invocation", layer.invocation},
          {"attention_sparsity", layer.attention.Sparsity()},
          {"mlp_sparsity", layer.mlp.Sparsity()},
          {"attention_drift", DriftOrNull(layer.attention_drift.Relative())},
          {"mlp_drift", DriftOrNull(layer.mlp_drift.Relative())},
          {"seconds", ToJson(layer.seconds)}};
}

// The mean over the layers where it was measured; negative: nowhere.
double MeanDrift(const StepReport& step, Drift LayerReport::*drift) {
  double sum = 0;
  int count = 0;
  for (const LayerReport& layer : step.layers) {
    if (!(layer.*drift).is_measured) continue;
    sum += (layer.*drift).Relative();
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
          {"exchanged_bytes", step.exchanged_bytes},
          {"attention_sparsity", step.Attention().Sparsity()},
          {"mlp_sparsity", step.Mlp().Sparsity()},
          {"attention_drift", DriftOrNull(MeanDrift(step, &LayerReport::attention_drift))},
          {"mlp_drift", DriftOrNull(MeanDrift(step, &LayerReport::mlp_drift))},
          {"layers", std::move(layers)}};
}

}  // namespace

nlohmann::json ToJson(const SparsityReport& report) {
  nlohmann::json list = nlohmann::json::array();
  for (const StepReport& step : report.steps) list.push_back(ToJson(step));
  return {{"attention_sparsity", report.AttentionSparsity()},
          {"mlp_sparsity", report.MlpSparsity()},
          {"full_steps", report.CountSteps(StepKind::kFull)},
          {"sparse_steps", report.CountSteps(StepKind::kSparse)},
          {"skipped_steps", report.CountSteps(StepKind::kSkip)},
          {"state_bytes", report.state_bytes},
          {"stage_seconds", ToJson(report.Stages())},
          {"steps", std::move(list)}};
}

}  // namespace tamias
