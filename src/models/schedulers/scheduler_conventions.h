// What a family's pipeline in diffusers hands to its scheduler, and how a scheduler class becomes a
// scheduler: what every file of a scheduler class offers to models/schedulers/scheduler_factory.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "models/schedulers/flow_scheduler.h"

namespace tamias {

class JsonObject;

struct SchedulerConventions {
  // The noise levels of n steps, before shifting, that the pipeline states; none: the scheduler
  // takes its own.
  std::function<std::vector<double>(int num_steps)> sigmas = {};
  // FLUX: levels are not stated to a scheduler whose config says use_flow_sigmas.
  bool leaves_flow_sigmas = false;
  // FLUX: the pipeline has a rule for dynamic shifting by the number of image tokens.
  bool shifts_by_tokens = false;
  // Mochi: the model knows 1 - sigma and predicts the opposite velocity.
  bool is_inverted = false;
  // FLUX: the pipeline's latents are packed as tokens, and so is the noise that a scheduler draws.
  bool draws_packed_noise = false;
};

// One generation's steps.
struct ScheduleRequest {
  int num_steps = 0;
  std::vector<double> sigmas = {};           // stated by the pipeline; empty: the scheduler's own
  std::optional<int64_t> image_tokens = {};  // where the pipeline shifts by them
  NoiseSource noise = {};
};

// Throws kInvalidArgument for fewer than one step or image token.
using SchedulerMaker = std::function<std::unique_ptr<FlowScheduler>(const ScheduleRequest&)>;

// Reads scheduler_config.json. Throws kUnsupported or kInvalidFile naming the file and the field
// for what would change diffusers' result and is not served; fields that the class does not know
// are ignored, as diffusers does.
using SchedulerReader = SchedulerMaker (*)(const JsonObject& json,
                                           const SchedulerConventions& conventions);

}  // namespace tamias
