// Sparsity = 1 - computed / all, summed over layers and over the steps that ran.
#include "tamias/sparsity/report.h"

#include <cmath>

namespace tamias {

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

double Drift::Relative() const {
  if (!is_measured) return -1;
  return squared_reference > 0 ? std::sqrt(squared / squared_reference) : 0;
}

Drift& Drift::operator+=(const Drift& other) {
  squared += other.squared;
  squared_reference += other.squared_reference;
  is_measured |= other.is_measured;
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

}  // namespace tamias
