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

// Rules, in this order, where a model's first step is step 0 or `restart`:
// - A step in skip_step_schedule is skipped, except a first one, before which nothing is kept.
// - Attention is full on the first steps of a model that run, two of them unless the configuration
//   needs fewer (SparsityConfig::Attention::FirstFullSteps), and on steps in full_step_schedule or,
//   without one, on steps divisible by full_step_every. MLPs are full on a first step and on steps
//   divisible by theirs.
// - A full step that is skipped moves to the next step that runs.
class StepSchedule {
 public:
  // restart: the step at which another model takes over, which has nothing from the steps before;
  // 0: one model makes all steps.
  explicit StepSchedule(const SparsityConfig& config, int64_t restart = 0)
      : attention_(config.attn),
        mlp_(config.mlp),
        step_caching_(config.step_caching),
        restart_(restart) {}
  StepPlan At(int64_t step) const;

 private:
  // The first step of the model that makes this one.
  int64_t FirstStep(int64_t step) const { return step < restart_ ? 0 : restart_; }
  bool IsSkipped(int64_t step) const;
  SparsityConfig::Attention attention_;
  SparsityConfig::Mlp mlp_;
  SparsityConfig::StepCaching step_caching_;
  int64_t restart_;
};

}  // namespace tamias
