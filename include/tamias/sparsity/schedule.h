// Which steps of a generation are full, sparse or skipped (Chipmunk, arXiv 2506.03275).
#pragma once

#include <cstdint>
#include <string_view>

#include "tamias/sparsity/config.h"

namespace tamias {

enum class StepKind : uint8_t { kFull, kSparse, kSkip };

std::string_view Name(StepKind kind);  // "full", "sparse", "skip"

struct StepPlan {
  bool is_skipped = false;         // by step_caching.skip_step_schedule
  bool attention_is_full = false;  // dense attention that renews the caches
  bool mlp_is_full = false;        // all neurons
  // kSkip, else kFull when what is enabled of attention and MLP (attention first) is full.
  StepKind kind = StepKind::kFull;
};

// Rules, in this order:
// - A step in skip_step_schedule is skipped, except step 0, before which nothing is kept.
// - Attention is full on the first steps that run, two of them unless the configuration needs fewer
//   (SparsityConfig::Attention::FirstFullSteps), and on steps in full_step_schedule or, without
//   one, on steps divisible by full_step_every. MLPs are full on the first step and on steps
//   divisible by theirs.
// - A full step that is skipped moves to the next step that runs.
class StepSchedule {
 public:
  explicit StepSchedule(const SparsityConfig& config)
      : attention_(config.attn), mlp_(config.mlp), step_caching_(config.step_caching) {}
  StepPlan At(int64_t step) const;

 private:
  bool IsSkipped(int64_t step) const;
  SparsityConfig::Attention attention_;
  SparsityConfig::Mlp mlp_;
  SparsityConfig::StepCaching step_caching_;
};

}  // namespace tamias
