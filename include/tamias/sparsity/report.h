// What a generation did: the kind of each step, the sparsity reached per layer and step, drift at
// full steps, time by stage.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tamias/sparsity/schedule.h"

namespace tamias {

// Work counted in units that cost the same: query-key pairs of attention, token-neuron pairs of
// MLPs. sparsity = 1 - done / dense.
struct WorkCount {
  double done = 0;
  double dense = 0;
  double Sparsity() const { return dense > 0 ? 1 - done / dense : 0; }
  WorkCount& operator+=(const WorkCount& other);
};

// On a GPU stages are not timed, they are 0; StepReport::seconds is measured there as well.
struct StageSeconds {
  double attention = 0;            // dense and sparse attention
  double attention_selection = 0;  // choosing columns, unpacking masks, folding caches
  double mlp = 0;
  double mlp_selection = 0;  // block means, choosing neurons
  double step_cache = 0;     // measuring change, keeping what skipped steps reuse
  StageSeconds& operator+=(const StageSeconds& other);
};

// Relative L2 distance between what cached deltas would have given and the full result, of full
// steps after the first; as sums of squares, which add up over parts.
struct Drift {
  double squared = 0;            // of the difference
  double squared_reference = 0;  // of the full result
  bool is_measured = false;
  // Negative: not measured.
  double Relative() const;
  Drift& operator+=(const Drift& other);
};

// One layer on one step of one invocation.
struct LayerReport {
  int layer = 0;
  int invocation = 0;
  WorkCount attention;
  WorkCount mlp;
  Drift attention_drift;
  Drift mlp_drift;
  StageSeconds seconds;
};

struct StepReport {
  int64_t step = 0;
  StepKind kind = StepKind::kFull;  // kSkip when no invocation ran the model
  int invocations_skipped = 0;      // of those: by schedule or by measured change
  double seconds = 0;               // from BeginStep to EndStep
  StageSeconds stages;              // what belongs to no layer: step_cache
  // That GPUs which compute a call together have sent each other for attention.
  size_t exchanged_bytes = 0;
  std::vector<LayerReport> layers;

  WorkCount Attention() const;
  WorkCount Mlp() const;
};

struct SparsityReport {
  std::vector<StepReport> steps;
  size_t state_bytes = 0;

  // Over all steps run; a full step counts as dense, a skipped one not at all.
  double AttentionSparsity() const;
  double MlpSparsity() const;
  StageSeconds Stages() const;
  int64_t CountSteps(StepKind kind) const;
};

}  // namespace tamias
