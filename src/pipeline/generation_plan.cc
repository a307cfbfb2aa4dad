// Each stage's workspace is the peak of a dry run of the code that the stage runs; state and
// weights are counted by who makes them. peak = always + the greediest of the stages: encoding,
// denoising and decoding.
#include "pipeline/generation_plan.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/machine.h"
#include "pipeline/device_invocations.h"
#include "pipeline/device_plan.h"
#include "pipeline/sparsity_choice.h"
#include "sparsity/split_tokens.h"

namespace tamias {
namespace {

// What oneDNN's compiled kernels, its scratch and the libraries' touched pages add while a
// generation runs: 13 to 42 MiB measured from 128x128 to 512x512 pixels, dense and accelerated. Of
// the same generation 18 MiB more or less, as the C library's heaps of two threads keep oneDNN's
// buffers or give them back.
constexpr size_t kRuntimeBytes = size_t{36} << 20;

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
  size_t condition = 0;                   // what the image becomes, on the host
  std::vector<DenoisingShare> denoising;  // GenerationPlan's shares
  StageBytes decoding;
};

// Refuses devices that there are not, unless the memory of one is given to plan for, and numbers of
// them that have not all as much to do. num_calls: of the transformer in a step, 0 where it does
// not run.
Devices CheckedDevices(const GenerateOptions& options, int num_calls) {
  const Devices devices = ParseDevices(options.device);
  if (options.max_gpu_memory_bytes == 0) std::ranges::for_each(devices, CheckDevice);
  CheckOneKind(devices);
  if (num_calls == 0 && devices.size() > 1) {
    Fail(ErrorCode::kInvalidArgument,
         "device: expected one (decoding runs on one), found '{}', of which {} would be used",
         options.device, Name(devices.front()));
  }
  if (devices.size() > 1 && devices.size() % static_cast<size_t>(num_calls) != 0) {
    Fail(ErrorCode::kInvalidArgument,
         "device: expected one, or GPUs of an even number (a step with guidance calls the "
         "transformer twice), found '{}'",
         options.device);
  }
  return devices;
}

// Plans are the same for all GPUs and run dry for the first, for which families keep models without
// weights (ModelOnDevices).
Placement DryPlacement(Placement placement) {
  placement.device.index = 0;
  return placement;
}

GenerationPlan BeginPlan(const ModelFamily& family, const GenerateOptions& options,
                         const CardMemoryOf& card_of, bool denoises) {
  GenerationPlan plan;
  plan.denoises = denoises;
  plan.settings = ResolveSettings(options, family.folder().defaults(), family.defaults());
  plan.num_images = options.num_images;
  plan.threads = options.threads > 0 ? options.threads : UsableCpus();
  plan.sparsity =
      ChooseSparsity(options.sparsity, family.info().default_profile, options.overrides);
  plan.devices = CheckedDevices(options, denoises ? plan.settings.num_invocations() : 0);
  plan.placement = family.PlacementFor(options);
  const bool is_on_gpu = plan.placement.IsOnGpu();
  if (is_on_gpu) std::ranges::transform(plan.devices, std::back_inserter(plan.cards), card_of);
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

// The first rank, and where there are several the one of the others that has most tokens.
std::vector<int> RanksToPlan(const GenerationPlan& plan) {
  if (plan.rank_bounds.empty()) return {0};
  int largest = 1;
  const auto size = [&](int rank) {
    const auto i = static_cast<size_t>(rank);
    return plan.rank_bounds[i + 1] - plan.rank_bounds[i];
  };
  for (int rank = 2; rank < plan.num_ranks(); ++rank) {
    if (size(rank) > size(largest)) largest = rank;
  }
  return {0, largest};
}

DenoisingShare PlanShare(const ModelFamily& family, const std::vector<PromptEmbedding>& prompts,
                         const ImageCondition& condition, const GenerationPlan& plan, int rank) {
  Context context = Context::Planning(DryPlacement(plan.placement), plan.threads);
  Tensor latents = WithoutMemory(plan.latents), prediction = WithoutMemory(plan.latents);
  DeviceInvocations::Work work;
  for (int i = 0; i < plan.invocations_per_device(); ++i) {
    work.Add(family, plan, rank, plan.settings.max_sequence_length,
             {&prompts[static_cast<size_t>(i)], prediction});
  }
  DeviceInvocations device(context, family, plan, condition, latents, work);
  SparseSession& session = device.session();
  const auto scheduler = family.scheduler().Make(plan.settings.steps, plan.latents.tokens());
  for (const int first : std::set{0, plan.second_expert_step}) {
    session.Restart();
    for (const StepPlan& kind : session.KindsOfSteps()) {
      session.BeginPlannedStep(kind);
      device.Predict(scheduler->timestep(first));
    }
  }
  const StageBytes bytes = StageBytes::Of(context);
  return {.state = session.plan(), .workspace = bytes.device, .host_workspace = bytes.host};
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

// All stages run dry, each with what the one before gives it.
StagePlans RunStages(const ModelFamily& family, const GenerationPlan& plan) {
  StagePlans stages;
  std::vector<PromptEmbedding> prompts;
  ImageCondition condition;
  stages.text = PlanText(family, plan, prompts);
  stages.embeddings = BytesOf(prompts);
  stages.image = PlanImage(family, plan, condition);
  stages.condition = condition.embedding.bytes() + condition.latents.bytes();
  for (const int rank : RanksToPlan(plan)) {
    stages.denoising.push_back(PlanShare(family, prompts, condition, plan, rank));
  }
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

// What the host holds in each stage.
struct HostStages {
  size_t encode = 0;
  size_t denoise = 0;
  size_t decode = 0;

  size_t Most() const { return std::max({encode, denoise, decode}); }
  HostStages operator+(const HostStages& other) const {
    return {encode + other.encode, denoise + other.denoise, decode + other.decode};
  }
};

size_t MappedBytes(const ModelComponent& component) {
  return static_cast<size_t>(component.model->weights().TotalBytes());
}

size_t MappedBytes(const ModelFamily& family) {
  size_t bytes = 0;
  for (const ModelComponent& component : family.components()) bytes += MappedBytes(component);
  return bytes;
}

// Weights as they lie in the files: in memory while their model runs, and of transformers one at a
// time (ModelDevices gives them back).
HostStages AddMappedWeights(const ModelFamily& family, Entries& entries) {
  HostStages stages;
  const auto add = [&](const ModelComponent& component, ModelStage stage, const char* name) {
    if (!component.RunsIn(stage)) return size_t{0};
    return entries.Add(fmt::format("{}: weights of {} (mapped)", name, component.name),
                       MappedBytes(component));
  };
  for (const ModelComponent& component : family.components()) {
    stages.encode += add(component, ModelStage::kEncode, "encoding");
    stages.denoise = std::max(stages.denoise, add(component, ModelStage::kDenoise, "denoising"));
    stages.decode += add(component, ModelStage::kDecode, "decoding");
  }
  return stages;
}

// Wider copies that models have made of their files, and what LoRAs changed: as much as there is
// now.
size_t AddWidenedWeights(const ModelFamily& family, Entries& entries) {
  size_t bytes = 0;
  for (const ModelComponent& component : family.components()) {
    const Weights& weights = component.model->weights();
    const auto widened = static_cast<size_t>(weights.WidenedBytes());
    const auto changed = static_cast<size_t>(weights.ChangedBytes());
    if (widened > 0) bytes += entries.Add("weights of " + component.name + ", widened", widened);
    if (changed > 0) bytes += entries.Add("weights of " + component.name + ", with LoRAs", changed);
  }
  return bytes;
}

// The plan's copies on the CPU: in the types of activations or of weights, and prepared.
size_t AddCopiedWeights(const GenerationPlan& plan, Entries& entries) {
  if (plan.placement.IsOnGpu()) return 0;
  size_t bytes = 0, prepared = 0;
  for (const PlannedCopy& copy : plan.copies) {
    prepared += copy.prepared_bytes;
    if (copy.bytes == 0) continue;
    const DType dtype = copy.placement.weight_dtype.value_or(copy.placement.activation_dtype);
    bytes += entries.Add(fmt::format("weights of {}, in {}", copy.component->name, Name(dtype)),
                         copy.bytes);
  }
  if (plan.sparsity.mlp.is_enabled) {
    bytes += entries.Add("weights prepared for sparse MLPs", prepared);
  }
  return bytes;
}

// Its copies for GPUs in pinned memory, which the pipeline keeps.
size_t AddPinnedWeights(const GenerationPlan& plan, Entries& entries) {
  if (!plan.placement.IsOnGpu()) return 0;
  const size_t pinned = HostBytes(plan.copies);
  if (pinned == 0) return 0;
  return entries.Add("weights that come to the GPU in turn (pinned)", pinned);
}

// Of the CPU.
size_t AddState(const GenerationPlan& plan, MemoryPlan& memory) {
  Entries entries(memory.entries);
  const StatePlan& state = plan.shares.front().state;
  if (plan.state_place.is_file) {
    memory.spill_bytes = state.spill_bytes;
    return entries.Add("state in memory at one time", state.spill_resident_bytes);
  }
  size_t bytes = 0;
  for (const StatePlan::Entry& entry : state.entries) {
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
  const size_t program = entries.Add("program and libraries", family.program_bytes());
  size_t always = entries.Add("kernels compiled at run time and their scratch", kRuntimeBytes);
  const HostStages mapped = AddMappedWeights(family, entries);
  const size_t copied = AddWidenedWeights(family, entries) + AddCopiedWeights(plan, entries);
  memory.weight_bytes = mapped.Most() + copied;
  const size_t loaded = program + copied + AddPinnedWeights(plan, entries);
  always += AddLatents(family, plan, entries);
  always += entries.Add("text embeddings", stages.embeddings);
  HostStages own;
  own.encode = entries.Add("workspace of the text encoders", on_host(stages.text));
  if (family.info().needs_image) {
    always += entries.Add("picture, encoded", stages.condition);
    own.encode = std::max(
        own.encode, entries.Add("workspace of the picture's encoders", on_host(stages.image)));
  }
  if (is_on_gpu) {
    const size_t pinned = PinnedStateBytes(plan);
    if (pinned > 0) own.denoise += entries.Add("state (pinned)", pinned);
  } else {
    own.denoise += AddState(plan, memory);
  }
  size_t workspace = 0;
  for (size_t i = 0; i < plan.devices.size(); ++i) {
    const DenoisingShare& share = plan.ShareOf(i);
    workspace += is_on_gpu ? share.host_workspace : share.workspace;
  }
  own.denoise += entries.Add("workspace of the transformer", workspace);
  own.decode = entries.Add("workspace of the decoder", on_host(stages.decoding)) +
               entries.Add(PictureName(family), PictureBytes(plan));
  memory.peak_bytes = loaded + always + (mapped + own).Most();
  plan.new_bytes = always + own.Most();
  plan.mapped_bytes = mapped.Most();
  plan.rest_mapped_bytes = loaded + plan.new_bytes + MappedBytes(family) - memory.peak_bytes;
}

StageWorkspaces WorkspacesOf(const StagePlans& stages) {
  return {.encode = std::max(stages.text.device, stages.image.device),
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

std::shared_ptr<const DryRuns::Run> DryRuns::For(const ModelFamily& family,
                                                 const GenerationPlan& plan) {
  auto run = std::make_shared<Run>(Run{.settings = plan.settings,
                                       .sparsity = WriteYaml(plan.sparsity),
                                       .placement = DryPlacement(plan.placement),
                                       .num_devices = plan.devices.size(),
                                       .threads = plan.threads,
                                       .stages = {}});
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
  const std::scoped_lock lock(mutex_);
  runs_.push_front(run);
  if (runs_.size() > kMaxDryRuns) runs_.pop_back();
  return run;
}

GenerationPlan PlanGeneration(const ModelFamily& family, const GenerateOptions& options,
                              DryRuns& dry_runs, const CardMemoryOf& card_of) {
  GenerationPlan plan = BeginPlan(family, options, card_of, /*denoises=*/true);
  if (plan.num_ranks() > 1) {
    plan.rank_bounds = SplitTokens(
        plan.sparsity, family.Geometry(plan.settings.max_sequence_length, plan.latents.grid()),
        plan.num_ranks());
  }
  plan.second_expert_step = SecondExpertStep(family, plan.settings, plan.latents.tokens());
  plan.first_expert = family.ExpertAt(
      family.scheduler().Make(plan.settings.steps, plan.latents.tokens())->timestep(0));
  auto run = dry_runs.For(family, plan);
  plan.shares = run->stages.denoising;
  if (plan.placement.IsOnGpu()) {
    const std::optional<size_t> limit = DeviceLimit(options, plan);
    FitDevice(family, WorkspacesOf(run->stages), limit, plan);
    if (plan.placement.streams_weights && plan.sparsity.mlp.is_enabled) {
      run = dry_runs.For(family, plan);  // for what streamed weights take more of the workspace
      plan.shares = run->stages.denoising;
      FitDevice(family, WorkspacesOf(run->stages), limit, plan);
    }
  }
  plan.copies = PlannedCopies(family.components(), plan);
  const StagePlans& stages = run->stages;
  plan.text_workspace = stages.text.device;
  plan.image_workspace = stages.image.device;
  plan.decoding_workspace = stages.decoding.device;
  PlanMemory(family, stages, plan);
  if (options.max_memory_bytes > 0 && plan.memory.peak_bytes > options.max_memory_bytes &&
      plan.shares.front().state.TotalBytes() > 0 && !plan.placement.IsOnGpu()) {
    plan.state_place.is_file = true;
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

GenerationPlan PlanDecoding(const ModelFamily& family, const GenerateOptions& options,
                            const CardMemoryOf& card_of) {
  GenerateOptions dense = options;
  dense.sparsity = "off";
  dense.overrides.clear();
  GenerationPlan plan = BeginPlan(family, dense, card_of, /*denoises=*/false);
  StagePlans stages;
  stages.decoding = PlanDecodingStage(family, plan);
  plan.decoding_workspace = stages.decoding.device;
  plan.copies = PlannedCopies(family.components(), plan);
  Entries entries(plan.memory.entries);
  size_t loaded = entries.Add("program and libraries", family.program_bytes());
  for (const ModelComponent& component : family.components()) {
    if (!component.RunsIn(ModelStage::kDecode)) continue;
    plan.mapped_bytes +=
        entries.Add("weights of " + component.name + " (mapped)", MappedBytes(component));
  }
  plan.rest_mapped_bytes = MappedBytes(family) - plan.mapped_bytes;
  loaded += plan.mapped_bytes + AddWidenedWeights(family, entries);
  loaded += AddCopiedWeights(plan, entries);
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
