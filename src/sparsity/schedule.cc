// The schedule is a function of the step alone, so that it can be printed before anything runs.
#include "tamias/sparsity/schedule.h"

#include <algorithm>

namespace tamias {

std::string_view Name(StepKind kind) {
  switch (kind) {
    case StepKind::kFull:
      return "full";
    case StepKind::kSparse:
      return "sparse";
    case StepKind::kSkip:
      return "skip";
  }
  return "?";
}

bool StepSchedule::IsSkipped(int64_t step) const {
  return step != FirstStep(step) && step_caching_.is_enabled &&
         step_caching_.skip_step_schedule.contains(step);
}

StepPlan StepSchedule::At(int64_t step) const {
  if (IsSkipped(step)) return {.is_skipped = true, .kind = StepKind::kSkip};
  const int64_t first = FirstStep(step);
  // The last step of this model that ran; below `first`: none.
  int64_t previous = step - 1;
  while (previous >= first && IsSkipped(previous)) --previous;
  const auto& schedule = attention_.full_step_schedule;
  const bool is_first = previous < first;
  const bool is_second = previous == first;
  const int64_t first_full_steps = attention_.FirstFullSteps();
  StepPlan plan;
  plan.attention_is_full =
      (is_first && first_full_steps > 0) || (is_second && first_full_steps > 1);
  plan.mlp_is_full = is_first;
  for (int64_t due = previous + 1; due <= step; ++due) {
    plan.attention_is_full |=
        schedule ? schedule->contains(due) : due % attention_.full_step_every == 0;
    plan.mlp_is_full |= due % mlp_.full_step_every == 0;
  }
  const bool is_full = attention_.is_enabled ? plan.attention_is_full
                       : mlp_.is_enabled     ? plan.mlp_is_full
                                             : true;
  plan.kind = is_full ? StepKind::kFull : StepKind::kSparse;
  return plan;
}

}  // namespace tamias
