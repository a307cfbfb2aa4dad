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
  GenerationPlan Plan(const GenerateOptions& options) {
    return PlanGeneration(*family, options, dry_runs, HeldNow());
  }
  GenerationPlan PlanOfDecoding(const GenerateOptions& options) {
    return PlanDecoding(*family, options, HeldNow());
  }
  MemoryHeld HeldNow() {
    return {.card_of = [this](Device gpu) { return devices.Card(gpu, running.AreOn(gpu)); },
            .pinned_beside = [this](const Devices& gpus) { return devices.PinnedBytes(gpus); }};
  }

  std::unique_ptr<const ModelFamily> family;
  ModelDevices devices;
  RunningGenerations running;
  DryRuns dry_runs;
};

}  // namespace tamias
