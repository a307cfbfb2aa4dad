// What of a generation lies in a GPU's memory, and what is done so that it fits.
#pragma once

#include <cstddef>

#include "pipeline/generation_plan.h"
#include "pipeline/model_family.h"

namespace tamias {

// What the stages take of the GPU beside weights and state.
struct StageWorkspaces {
  size_t encode = 0;
  size_t denoise = 0;
  size_t decode = 0;
};

// Fills in memory.device_entries, device_bytes and device_measures, and new_device_bytes, for the
// plan's residency.
void PlanDevice(const ModelFamily& family, const StageWorkspaces& workspaces, GenerationPlan& plan);

// The same of a plan that is nothing but its decoding.
void PlanDecoderDevice(const ModelFamily& family, size_t workspace, GenerationPlan& plan);

// Chooses the residency, the first with which the plan is within `limit` bytes, or the one that
// takes least where none is, and calls PlanDevice.
void FitDevice(const ModelFamily& family, const StageWorkspaces& workspaces, size_t limit,
               GenerationPlan& plan);

// What a generation may take of the plan's GPU: options.max_gpu_memory_bytes, and what the card has
// less what the driver and libraries take. 0: not known, for there is no such GPU.
size_t DeviceLimit(const GenerateOptions& options, const Placement& placement);

// Pinned memory of the host that the residency takes for weights.
size_t PinnedWeightBytes(const ModelFamily& family, const GenerationPlan& plan);

}  // namespace tamias
