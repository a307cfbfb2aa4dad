// What a Pipeline and the generations it started share: the model, the devices it is ready on, who
// is under way, and what plans measured.
#pragma once

#include <memory>
#include <mutex>

#include "pipeline/generation_plan.h"
#include "pipeline/memory_check.h"
#include "pipeline/model_devices.h"
#include "pipeline/model_family.h"
#include "tamias/pipeline.h"

namespace tamias {

struct Pipeline::Parts {
  GenerationPlan Plan(const GenerateOptions& options) {
    return PlanGeneration(*family, options, dry_runs, CardsNow());
  }
  GenerationPlan PlanOfDecoding(const GenerateOptions& options) {
    return PlanDecoding(*family, options, CardsNow());
  }
  CardMemoryOf CardsNow() {
    return [this](Device gpu) { return devices.Card(gpu, running.AreOn(gpu)); };
  }
  // A place beside the generations under way. What those before have left stays if there is room
  // for it, too.
  RunningGenerations::Entry Enter(const GenerationPlan& plan, const GenerateOptions& options) {
    const std::lock_guard lock(entering);
    if (!running.HasRoomBeside(plan, options, devices.LeftoversOf(plan))) {
      devices.DropLeftovers(plan);
    }
    return running.Enter(plan, options);
  }

  std::unique_ptr<const ModelFamily> family;
  ModelDevices devices;
  RunningGenerations running;
  DryRuns dry_runs;
  std::mutex entering;
};

}  // namespace tamias
