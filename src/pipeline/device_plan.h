// What of a generation lies in the memory of each GPU, and what is done so that it fits: the same
// on all of them, since the calls of a step wait for each other, and so do those that share one.
// The first has encoders and decoder, too.
#pragma once

#include <cstddef>
#include <optional>

#include "pipeline/generation_plan.h"
#include "pipeline/model_family.h"

namespace tamias {

// What the stages of the first GPU take beside weights.
struct StageWorkspaces {
  size_t encode = 0;
  size_t decode = 0;
};

// Fills in memory.devices, device_bytes and device_measures, and new_device_bytes, for the plan's
// residency and shares.
void PlanDevice(const ModelFamily& family, const StageWorkspaces& workspaces, GenerationPlan& plan);

// The same of a plan that is nothing but its decoding.
void PlanDecoderDevice(const ModelFamily& family, size_t workspace, GenerationPlan& plan);

// Chooses the residency, the first with which the plan is within `limit` bytes, or the one that
// takes least where none is, and calls PlanDevice. Nothing is saved where no limit is known.
void FitDevice(const ModelFamily& family, const StageWorkspaces& workspaces,
               std::optional<size_t> limit, GenerationPlan& plan);

// What the plan's generation may take of each of its GPUs: options.max_gpu_memory_bytes, and what
// is free on the fullest card less what libraries take. None: not known, for there are no such
// GPUs.
std::optional<size_t> DeviceLimit(const GenerateOptions& options, const GenerationPlan& plan);

// Pinned memory of the host that state takes where it is offloaded, of all devices.
size_t PinnedStateBytes(const GenerationPlan& plan);

}  // namespace tamias
