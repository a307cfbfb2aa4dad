// What a Pipeline and the generations it started share: the model, the devices it is ready on, who
// is under way, and what plans measured.
#pragma once

#include <memory>

#include "pipeline/generation_plan.h"
#include "pipeline/memory_check.h"
#include "pipeline/model_devices.h"
#include "pipeline/model_family.h"
#include "tamias/pipeline.h"

namespace tamias {

struct Pipeline::Parts {
  std::unique_ptr<const ModelFamily> family;
  ModelDevices devices;
  RunningGenerations running;
  DryRuns dry_runs;
};

}  // namespace tamias
