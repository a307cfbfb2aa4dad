// What a generation will be and hold, known before anything runs: its settings, device, token
// sequence, and the memory of each of its stages, measured by running them dry.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

#include "pipeline/card_memory.h"
#include "pipeline/generation_settings.h"
#include "pipeline/model_family.h"
#include "pipeline/model_residency.h"
#include "pipeline/packed_latents.h"
#include "pipeline/planned_copies.h"
#include "tamias/devices.h"
#include "tamias/pipeline.h"
#include "tamias/placement.h"
#include "tamias/sparsity/sparse_session.h"

namespace tamias {

struct DenoisingShare {
  StatePlan state;
  size_t workspace = 0;
  size_t host_workspace = 0;  // of a GPU's, beside it; 0 on the CPU
};

struct GenerationPlan {
  GenerationSettings settings;
  bool denoises = true;  // false: it is nothing but its decoding
  int num_images = 1;
  int threads = 1;  // that its stages run on
  SparsityConfig sparsity;
  // Of the denoiser: all invocations of a step on one, or each on its own, or each on several next
  // to each other that share it. Encoders and decoder are on the first.
  Devices devices;
  std::vector<CardMemory> cards;  // of the devices, when the plan was made; none on the CPU
  Placement placement;            // of the denoiser, on the first device
  // Of encoders: the same device, f32 on the CPU, bf16 on a GPU, as states of T5 and of
  // autoencoders leave the range of f16.
  Placement encoder;
  // Of the decoder: as the encoders, but for bf16 where the denoiser computes in it on the CPU.
  Placement decoder;
  LatentShape latents;
  int first_expert = 0;              // the transformer that makes the first step
  int second_expert_step = 0;        // the first of another transformer; 0: one makes all steps
  std::vector<int64_t> rank_bounds;  // SparseGeometry's; empty: no invocation is shared
  // What a device takes to denoise, with the longest prompts: the first rank of an invocation, and
  // where it is shared the largest of the others.
  std::vector<DenoisingShare> shares;
  StatePlace state_place;
  ModelResidency residency;  // on all GPUs alike
  // What the stages take from their workspaces, on the device of each: all of it is reserved at
  // once.
  size_t text_workspace = 0;   // of the text encoders
  size_t image_workspace = 0;  // of the picture's encoders
  size_t decoding_workspace = 0;
  MemoryPlan memory;
  std::vector<PlannedCopy> copies;  // of its models, which generations share
  // Of memory.peak_bytes and the bytes of memory.devices, what is this generation's own: without
  // the program, mapped weights and copies; of a GPU where models take turns all of it.
  size_t new_bytes = 0;
  // Of mapped weights, the most at one time, and how much beside memory.peak_bytes other
  // generations, in other stages, can keep in memory.
  size_t mapped_bytes = 0;
  size_t rest_mapped_bytes = 0;
  std::vector<size_t> new_device_bytes;  // of the devices

  // On the first device.
  const Placement& PlacementOf(const ModelComponent& component) const {
    if (component.RunsIn(ModelStage::kDenoise)) return placement;
    return component.RunsIn(ModelStage::kDecode) ? decoder : encoder;
  }
  // The transformer that makes a step.
  int ExpertOf(int step) const {
    return second_expert_step > 0 && step >= second_expert_step ? 1 : first_expert;
  }
  // Those that make any.
  std::vector<int> Experts() const {
    return second_expert_step > 0 ? std::vector{0, 1} : std::vector{first_expert};
  }
  int invocations_per_device() const {
    return devices.size() == 1 ? settings.num_invocations() : 1;
  }
  // The devices that share an invocation.
  int num_ranks() const {
    return static_cast<int>(devices.size()) * invocations_per_device() / settings.num_invocations();
  }
  int RankOf(size_t device) const { return static_cast<int>(device) % num_ranks(); }
  const DenoisingShare& ShareOf(size_t device) const {
    return RankOf(device) == 0 ? shares.front() : shares.back();
  }
};

// What dry runs of one family measured, by what decides it: who makes many generations of few
// shapes pays once for each shape. Threads may use it at once.
class DryRuns {
 public:
  DryRuns();
  ~DryRuns();

 private:
  friend GenerationPlan PlanGeneration(const ModelFamily&, const GenerateOptions&, DryRuns&,
                                       const CardMemoryOf&);
  struct Run;
  std::shared_ptr<const Run> For(const ModelFamily& family, const GenerationPlan& plan);

  std::mutex mutex_;
  std::list<std::shared_ptr<const Run>> runs_;  // the newest first
};

// Throws kInvalidArgument, naming the option, for what cannot be; kOutOfMemory for what no machine
// could hold. Whether this one can: pipeline/memory_check.h. card_of: of the GPUs; not given: they
// are planned for as if this machine had none. The family must outlive the plan.
GenerationPlan PlanGeneration(const ModelFamily& family, const GenerateOptions& options,
                              DryRuns& dry_runs, const CardMemoryOf& card_of = kNoCards);
// The first step of a second transformer (ModelFamily::ExpertAt); 0: one makes all steps.
int SecondExpertStep(const ModelFamily& family, const GenerationSettings& settings,
                     int64_t image_tokens);
// Of a generation that is nothing but its decoding.
GenerationPlan PlanDecoding(const ModelFamily& family, const GenerateOptions& options,
                            const CardMemoryOf& card_of = kNoCards);

}  // namespace tamias
