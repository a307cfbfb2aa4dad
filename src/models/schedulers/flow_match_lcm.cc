// Consistency sampling of flow-matching models: see the header.
#include "models/schedulers/flow_match_lcm.h"

#include "io/json.h"
#include "models/schedulers/flow_match_euler.h"
#include "models/schedulers/scheduler_fields.h"

namespace tamias {

SchedulerMaker ReadFlowMatchLcm(const JsonObject& json, const SchedulerConventions& conventions) {
  FlowMatchEulerConfig config = FlowMatchEulerConfig::FromJson(json, conventions);
  // The last level is 1 with inverted sigmas: nothing but noise.
  RequireBool(json, "invert_sigmas", false, false);
  RequireAbsent(json, "scale_factors");
  config.stochastic_sampling = true;
  return [config](const ScheduleRequest& request) {
    return std::make_unique<FlowMatchEuler>(config, request);
  };
}

}  // namespace tamias
