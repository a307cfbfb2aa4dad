// The scheduler of consistency models distilled from flow-matching ones (diffusers'
// FlowMatchLCMScheduler; Luo et al., 2310.04378): the noise levels of FlowMatchEuler, and each step
// goes to the predicted result and adds new noise of the next level.
#pragma once

#include "models/schedulers/scheduler_conventions.h"

namespace tamias {

// Refuses scale_factors: latents that grow from step to step.
SchedulerMaker ReadFlowMatchLcm(const JsonObject& json, const SchedulerConventions& conventions);

}  // namespace tamias
