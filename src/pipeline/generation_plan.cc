// Each stage's workspace is the peak of a dry run of the code that the stage runs; state and
// weights are counted by who makes them. peak = always + the greediest of encoding, denoising and
// decoding.
#include "pipeline/generation_plan.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/machine.h"
#include "pipeline/device_invocations.h"
#include "pipeline/device_plan.h"
#include "pipeline/sparsity_choice.h"

namespace tamias {
namespace {

// What oneDNN's compiled kernels, its scratch and the libraries' touched pages add while a
// generation runs: 13 to 23 MB measured from 128x128 to 512x512 pixels, dense and accelerated.
constexpr size_t kRuntimeBytes = size_t{23} << 20;

constexpr size_t kMaxDryRuns = 64;  // that are kept: a few KiB each

size_t FloatBytes(int64_t count) { return sizeof(float) * static_cast<size_t>(count); }

// What a stage takes of the two memories.
struct StageBytes {
  size_t device = 0;  // of the device it runs on
  size_t host = 0;    // beside it, of the host; 0 where the stage runs on the CPU

  static StageBytes Of(Context& context) {
    const size_t device = context.workspace().peak_bytes();
    return {device, context.IsOnGpu() ? context.host_workspace().peak_bytes() : 0};
  }
};

struct StagePlans {
  StageBytes text;
  size_t embeddings = 0;  // of the prompts, on the host
  StageBytes image;
  size_t condition = 0;  // what the image becomes, on the host
  StageBytes denoising;
  StageBytes decoding;
};

// Refuses devices that there are not, unless the memory of one is given to plan for, and more of
// them than have something to do. num_calls: of the transformer in a step, 0 where it does not run.
Devices CheckedDevices(const GenerateOptions& options, int num_calls) {
  const Devices devices = ParseDevices(options.device);
  if (options.max_gpu_memory_bytes == 0) std::ranges::for_each(devices, CheckDevice);
  CheckOneKind(devices);
  const auto usable = static_cast<size_t>(std::max(num_calls, 1));
  if (devices.size() > usable) {
    const char* reason = num_calls == 0   ? "decoding runs on one"
                         : num_calls == 1 ? "a step without guidance calls the transformer once"
                                          : "a step with guidance calls the transformer twice";
    Fail(ErrorCode::kInvalidArgument,
         "device: expected at most {} ({}), found '{}', of which {} would be used", usable, reason,
         options.device,
         Name(Devices(devices.begin(), devices.begin() + static_cast<std::ptrdiff_t>(usable))));
  }
  return devices;
}

// Plans are the same for all GPUs and run dry for the first, for which families keep models without
// weights (ModelOnDevices).
Placement DryPlacement(Placement placement) {
  placement.device.index = 0;
  return placement;
}

GenerationPlan BeginPlan(const ModelFamily& family, const GenerateOptions& options, bool denoises) {
  GenerationPlan plan;
  plan.settings = ResolveSettings(options, family.folder().defaults(), family.defaults());
  plan.num_images = options.num_images;
  plan.threads = options.threads > 0 ? options.threads : UsableCpus();
  plan.sparsity =
      ChooseSparsity(options.sparsity, family.info().default_profile, options.overrides);
  plan.devices = CheckedDevices(options, denoises ? plan.settings.num_invocations() : 0);
  plan.placement = family.PlacementFor(options);
  const bool is_on_gpu = plan.placement.IsOnGpu();
  plan.encoder = is_on_gpu ? PlacementOn(plan.placement.device, DType::kBF16) : Placement();
  plan.decoder = is_on_gpu ? plan.encoder : plan.placement;
  plan.decoder.weight_dtype = std::nullopt;
  plan.latents = family.LatentsOf(plan.settings);
  if (plan.latents.tokens() > kMaxImageTokens) {
    Fail(ErrorCode::kOutOfMemory, "{} are {} tokens; no machine has the memory for more than {}",
         SizeText(plan.settings), plan.latents.tokens(), kMaxImageTokens);
  }
  return plan;
}

Tensor WithoutMemory(const LatentShape& latents) {
  return Tensor::WithoutMemory({1, latents.tokens(), latents.token_channels()}, DType::kF32, {});
}

// The text encoders' dry run; fills in the embeddings of the longest prompts.
StageBytes PlanText(const ModelFamily& family, const GenerationPlan& plan,
                    std::vector<PromptEmbedding>& prompts) {
  Context context = Context::Planning(DryPlacement(plan.encoder), plan.threads);
  for (int i = 0; i < plan.settings.num_invocations(); ++i) {
    prompts.push_back(family.EncodePrompt(context, "", plan.settings));
  }
  return StageBytes::Of(context);
}

StageBytes PlanImage(const ModelFamily& family, const GenerationPlan& plan,
                     ImageCondition& condition) {
  if (!family.info().needs_image) return {};
  Context context = Context::Planning(DryPlacement(plan.encoder), plan.threads);
  condition = family.EncodeImage(context, {}, plan.latents, [] {});
  return StageBytes::Of(context);
}

// Of one device; fills in the plan of its state as well.
StageBytes PlanDenoising(const ModelFamily& family, const std::vector<PromptEmbedding>& prompts,
                         const ImageCondition& condition, GenerationPlan& plan) {
  Context context = Context::Planning(DryPlacement(plan.placement), plan.threads);
  Tensor latents = WithoutMemory(plan.latents), prediction = WithoutMemory(plan.latents);
  std::vector<DeviceInvocations::Invocation> invocations;
  for (size_t i = 0; i < plan.geometries.size(); ++i) {
    invocations.push_back({&prompts[i], prediction});
  }
  DeviceInvocations device(context, family, plan, plan.geometries, condition, latents, invocations);
  SparseSession& session = device.session();
  plan.state = session.plan();
  const auto scheduler = family.scheduler().Make(plan.settings.steps, plan.latents.tokens());
  for (const int first : std::set{0, plan.second_expert_step}) {
    session.Restart();
    for (const StepPlan& kind : session.KindsOfSteps()) {
      session.BeginPlannedStep(kind);
      device.Predict(scheduler->timestep(first));
    }
  }
  return StageBytes::Of(context);
}

StageBytes PlanDecodingStage(const ModelFamily& family, const GenerationPlan& plan) {
  Context context = Context::Planning(DryPlacement(plan.decoder), plan.threads);
  family.Decode(
      context, plan.latents, WithoutMemory(plan.latents), [](ConstTensorView) {}, [] {});
  return StageBytes::Of(context);
}

size_t BytesOf(const std::vector<PromptEmbedding>& prompts) {
  size_t bytes = 0;
  for (const PromptEmbedding& prompt : prompts) {
    bytes += prompt.sequence.bytes() + prompt.pooled.bytes();
  }
  return bytes;
}

// All stages run dry, each with what the one before gives it. Fills in the plan of the state.
StagePlans RunStages(const ModelFamily& family, GenerationPlan& plan) {
  StagePlans stages;
  std::vector<PromptEmbedding> prompts;
  ImageCondition condition;
  stages.text = PlanText(family, plan, prompts);
  stages.embeddings = BytesOf(prompts);
  stages.image = PlanImage(family, plan, condition);
  stages.condition = condition.embedding.bytes() + condition.latents.bytes();
  stages.denoising = PlanDenoising(family, prompts, condition, plan);
  stages.decoding = PlanDecodingStage(family, plan);
  return stages;
}

// Entries of a memory plan, and sums of them.
class Entries {
 public:
  explicit Entries(std::vector<MemoryEntry>& entries) : entries_(entries) {}
  size_t Add(std::string name, size_t bytes) {
    entries_.push_back({std::move(name), bytes});
    return bytes;
  }

 private:
  std::vector<MemoryEntry>& entries_;
};

size_t PictureBytes(const GenerationPlan& plan) {
  return size_t{3} * static_cast<size_t>(plan.settings.width) *
         static_cast<size_t>(plan.settings.height) * static_cast<size_t>(plan.settings.num_frames);
}

const char* PictureName(const ModelFamily& family) {
  return family.info().makes_videos ? "film" : "picture";
}

// Held from the first stage to the last.
size_t AddLatents(const ModelFamily& family, const GenerationPlan& plan, Entries& entries) {
  // Noise, latents in both orders, two predictions and what the scheduler remembers.
  const auto scheduler = family.scheduler().Make(plan.settings.steps, plan.latents.tokens());
  const size_t history = scheduler->HistoryBytes(plan.latents.size());
  size_t bytes = entries.Add("latents", 5 * FloatBytes(plan.latents.size()) + history);
  if (scheduler->DrawsNoise()) {
    bytes += entries.Add("noise of the steps", NoiseStream::Bytes(plan.latents, plan.num_images));
  }
  return bytes;
}

size_t AddWeights(const ModelFamily& family, const GenerationPlan& plan, Entries& entries) {
  size_t bytes = 0;
  for (const ComponentInfo& component : family.info().components) {
    bytes += entries.Add("weights of " + component.name + " (mapped)", component.bytes);
  }
  for (const ModelComponent& component : family.components()) {
    const auto widened = static_cast<size_t>(component.model->weights().WidenedBytes());
    if (widened > 0) bytes += entries.Add("weights of " + component.name + ", widened", widened);
  }
  if (plan.placement.IsOnGpu()) {
    const size_t pinned = PinnedWeightBytes(family, plan);
    if (pinned > 0) bytes += entries.Add("weights that come to the GPU in turn (pinned)", pinned);
    return bytes;
  }
  for (const ModelComponent& component : family.components()) {
    const Placement& placement = plan.PlacementOf(component);
    if (placement.activation_dtype == DType::kF32 && !placement.weight_dtype) continue;
    const size_t copied = component.model->weights().DeviceBytes(placement);
    const DType dtype = placement.weight_dtype.value_or(placement.activation_dtype);
    if (copied > 0) {
      bytes +=
          entries.Add(fmt::format("weights of {}, in {}", component.name, Name(dtype)), copied);
    }
  }
  if (plan.sparsity.mlp.is_enabled) {
    bytes +=
        entries.Add("weights prepared for sparse MLPs", family.SparsityWeightBytes(plan.placement));
  }
  return bytes;
}

size_t AddState(const GenerationPlan& plan, MemoryPlan& memory) {
  Entries entries(memory.entries);
  if (plan.state_place == StatePlace::kFile) {
    memory.spill_bytes = plan.state.spill_bytes;
    return entries.Add("state in memory at one time", plan.state.spill_resident_bytes);
  }
  size_t bytes = 0;
  for (const StatePlan::Entry& entry : plan.state.entries) {
    bytes += entries.Add("state: " + entry.name, entry.bytes);
  }
  return bytes;
}

// Fills in the plan's memory, and what of it is the generation's own.
void PlanMemory(const ModelFamily& family, const StagePlans& stages, GenerationPlan& plan) {
  MemoryPlan& memory = plan.memory;
  memory.entries.clear();
  memory.spill_bytes = 0;
  Entries entries(memory.entries);
  const bool is_on_gpu = plan.placement.IsOnGpu();
  const auto on_host = [&](const StageBytes& stage) {
    return is_on_gpu ? stage.host : stage.device;
  };
  size_t always = entries.Add("program and libraries", family.program_bytes());
  always += entries.Add("kernels compiled at run time and their scratch", kRuntimeBytes);
  memory.weight_bytes = AddWeights(family, plan, entries);
  always += memory.weight_bytes;
  always += AddLatents(family, plan, entries);
  always += entries.Add("text embeddings", stages.embeddings);
  size_t encoding = entries.Add("workspace of the text encoders", on_host(stages.text));
  if (family.info().needs_image) {
    always += entries.Add("picture, encoded", stages.condition);
    encoding = std::max(encoding,
                        entries.Add("workspace of the picture's encoders", on_host(stages.image)));
  }
  size_t denoising = 0;
  if (is_on_gpu) {
    if (plan.state_place == StatePlace::kHost) {
      denoising +=
          entries.Add("state (pinned)", plan.devices.size() * plan.state.offloaded_host_bytes);
    }
  } else {
    denoising += AddState(plan, memory);
  }
  denoising +=
      entries.Add("workspace of the transformer", plan.devices.size() * on_host(stages.denoising));
  const size_t decoding = entries.Add("workspace of the decoder", on_host(stages.decoding)) +
                          entries.Add(PictureName(family), PictureBytes(plan));
  memory.peak_bytes = always + std::max({encoding, denoising, decoding});
  size_t loaded = family.program_bytes();
  for (const ComponentInfo& component : family.info().components) loaded += component.bytes;
  plan.new_bytes = memory.peak_bytes - loaded;
}

StageWorkspaces WorkspacesOf(const StagePlans& stages) {
  return {.encode = std::max(stages.text.device, stages.image.device),
          .denoise = stages.denoising.device,
          .decode = stages.decoding.device};
}

}  // namespace

struct DryRuns::Run {
  // What decides it; the sparsity as YAML.
  GenerationSettings settings;
  std::string sparsity;
  Placement placement;
  size_t num_devices = 1;
  int threads = 1;
  // What came of it.
  StagePlans stages;
  StatePlan state;

  bool IsOf(const Run& other) const {
    return settings == other.settings && sparsity == other.sparsity &&
           placement.device == other.placement.device && num_devices == other.num_devices &&
           placement.activation_dtype == other.placement.activation_dtype &&
           placement.weight_dtype == other.placement.weight_dtype &&
           placement.streams_weights == other.placement.streams_weights && threads == other.threads;
  }
};

DryRuns::DryRuns() = default;
DryRuns::~DryRuns() = default;

std::shared_ptr<const DryRuns::Run> DryRuns::For(const ModelFamily& family, GenerationPlan& plan) {
  auto run = std::make_shared<Run>(Run{.settings = plan.settings,
                                       .sparsity = WriteYaml(plan.sparsity),
                                       .placement = DryPlacement(plan.placement),
                                       .num_devices = plan.devices.size(),
                                       .threads = plan.threads,
                                       .stages = {},
                                       .state = {}});
  {
    const std::scoped_lock lock(mutex_);
    const auto known =
        std::ranges::find_if(runs_, [&](const auto& other) { return other->IsOf(*run); });
    if (known != runs_.end()) {
      runs_.splice(runs_.begin(), runs_, known);
      return runs_.front();
    }
  }
  run->stages = RunStages(family, plan);
  run->state = plan.state;
  const std::scoped_lock lock(mutex_);
  runs_.push_front(run);
  if (runs_.size() > kMaxDryRuns) runs_.pop_back();
  return run;
}

GenerationPlan PlanGeneration(const ModelFamily& family, const GenerateOptions& options,
                              DryRuns& dry_runs) {
  GenerationPlan plan = BeginPlan(family, options, /*denoises=*/true);
  plan.geometries.assign(static_cast<size_t>(plan.invocations_per_device()),
                         family.Geometry(plan.settings.max_sequence_length, plan.latents.grid()));
  plan.second_expert_step = SecondExpertStep(family, plan.settings, plan.latents.tokens());
  auto run = dry_runs.For(family, plan);
  plan.state = run->state;
  if (plan.placement.IsOnGpu()) {
    const size_t limit = DeviceLimit(options, plan.devices);
    FitDevice(family, WorkspacesOf(run->stages), limit, plan);
    if (plan.placement.streams_weights && plan.sparsity.mlp.is_enabled) {
      run = dry_runs.For(family, plan);  // for what streamed weights take more of the workspace
      FitDevice(family, WorkspacesOf(run->stages), limit, plan);
    }
  }
  const StagePlans& stages = run->stages;
  plan.text_workspace = stages.text.device;
  plan.image_workspace = stages.image.device;
  plan.denoising_workspace = stages.denoising.device;
  plan.decoding_workspace = stages.decoding.device;
  PlanMemory(family, stages, plan);
  if (options.max_memory_bytes > 0 && plan.memory.peak_bytes > options.max_memory_bytes &&
      plan.state.TotalBytes() > 0 && !plan.placement.IsOnGpu()) {
    plan.state_place = StatePlace::kFile;
    PlanMemory(family, stages, plan);
  }
  return plan;
}

int SecondExpertStep(const ModelFamily& family, const GenerationSettings& settings,
                     int64_t image_tokens) {
  const auto scheduler = family.scheduler().Make(settings.steps, image_tokens);
  for (int step = 1; step < scheduler->num_steps(); ++step) {
    if (family.ExpertAt(scheduler->timestep(step)) !=
        family.ExpertAt(scheduler->timestep(step - 1))) {
      return step;
    }
  }
  return 0;
}

GenerationPlan PlanDecoding(const ModelFamily& family, const GenerateOptions& options) {
  GenerateOptions dense = options;
  dense.sparsity = "off";
  dense.overrides.clear();
  GenerationPlan plan = BeginPlan(family, dense, /*denoises=*/false);
  StagePlans stages;
  stages.decoding = PlanDecodingStage(family, plan);
  plan.decoding_workspace = stages.decoding.device;
  Entries entries(plan.memory.entries);
  size_t loaded = entries.Add("program and libraries", family.program_bytes());
  for (const ComponentInfo& component : family.info().components) {
    if (component.name == "vae") {
      loaded += entries.Add("weights of vae (mapped)", component.bytes);
    }
  }
  const bool is_on_gpu = plan.placement.IsOnGpu();
  plan.new_bytes = entries.Add("kernels compiled at run time and their scratch", kRuntimeBytes);
  plan.new_bytes += entries.Add("latents", FloatBytes(plan.latents.size()));
  plan.new_bytes += entries.Add("workspace of the decoder",
                                is_on_gpu ? stages.decoding.host : stages.decoding.device);
  plan.new_bytes += entries.Add(PictureName(family), PictureBytes(plan));
  plan.memory.peak_bytes = loaded + plan.new_bytes;
  if (is_on_gpu) PlanDecoderDevice(family, stages.decoding.device, plan);
  return plan;
}

}  // namespace tamias
