// The loop of all families: settings and plan are checked, prompts encoded, and for each picture
// latents x [1, N, C] go from noise to picture, step by step through the scheduler; with guidance
// prediction = negative + scale (positive - negative) (Ho and Salimans, arXiv 2207.12598).
#include "pipeline/denoising_pipeline.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/cuda/device.h"
#include "base/device_memory.h"
#include "base/machine.h"
#include "ops/attention.h"
#include "ops/linear.h"
#include "pipeline/saved_latents.h"
#include "pipeline/sparsity_choice.h"
#include "sparsity/delta_mlp.h"

namespace tamias {
namespace {

// What oneDNN's compiled kernels, its scratch and the libraries' touched pages add while a
// generation runs: 13 to 23 MB measured from 128x128 to 512x512 pixels, dense and accelerated.
constexpr size_t kRuntimeBytes = size_t{23} << 20;
// What a process maps or reserves beside the plan without using it, which only limits on address
// space and data count: 16 to 71 MiB measured from 128x128 to 768x768 pixels.
constexpr size_t kSlackBytes = size_t{96} << 20;

// What operations take from the workspace beside what the denoiser and the sparsity layer plan.
size_t CpuScratchBytes(const SparseGeometry& geometry, const SparsityConfig& sparsity,
                       int threads) {
  const Context context(threads);
  const int64_t tokens = geometry.joint_tokens();
  return std::max(LinearWorkspaceBytes(context, tokens, geometry.model_dim + geometry.mlp_dim,
                                       geometry.model_dim, DType::kF16),
                  AttentionWorkspaceBytes(context.threads(), geometry.head_dim,
                                          geometry.num_heads * (tokens / sparsity.attn.mbm + 1)));
}

size_t GpuScratchBytes(const SparseGeometry& geometry, const Placement& placement) {
  // Small operands of dense layers in another type, orders of groups, sums, alignment.
  constexpr size_t kSmall = size_t{4} << 20;
  return DenseMlpWorkspaceBytes(geometry, geometry.joint_tokens(), placement) + kSmall;
}

// prediction <- negative + scale (prediction - negative), in place (Ho and Salimans, 2207.12598).
void Guide(double scale, ConstTensorView negative, TensorView prediction) {
  const auto s = static_cast<float>(scale);
  const float* from = negative.host_data<float>();
  float* to = prediction.host_data<float>();
  for (int64_t i = 0; i < prediction.NumElements(); ++i) to[i] = from[i] + s * (to[i] - from[i]);
}

uint8_t ToByte(float value) {
  return static_cast<uint8_t>(std::lround(255 * std::clamp(value / 2 + 0.5f, 0.0f, 1.0f)));
}

// pixels [H, W, 3] f32 in [-1, 1], contiguous.
Image ToImage(ConstTensorView pixels) {
  Image image{static_cast<int>(pixels.dim(1)), static_cast<int>(pixels.dim(0)), {}};
  image.rgb.resize(static_cast<size_t>(pixels.NumElements()));
  const float* values = pixels.host_data<float>();
  std::transform(values, values + pixels.NumElements(), image.rgb.begin(), ToByte);
  return image;
}

Latents ToLatents(const Tensor& tensor) {
  const float* values = tensor.host_data<float>();
  return {tensor.dim(1), tensor.dim(2), {values, values + tensor.NumElements()}};
}

ComponentInfo Describe(const std::string& name, const JsonObject& config, const Weights& weights) {
  std::string class_name = config.StringOr("_class_name", "");
  if (class_name.empty()) class_name = config.StringArrayOr("architectures", {"?"}).front();
  return {name,
          class_name,
          static_cast<size_t>(weights.TotalParameters()),
          static_cast<size_t>(weights.TotalBytes()),
          std::string(Name(weights.MainDType())),
          weights.variant()};
}

}  // namespace

DenoisingPipeline::DenoisingPipeline(const ModelFolder& folder)
    : folder_(folder), program_bytes_(ResidentBytes()) {
  info_.family = folder_.family();
}

void DenoisingPipeline::AddComponent(const std::string& name, const Weights& weights) {
  components_.push_back({name, weights});
  info_.components.push_back(Describe(name, folder_.Config(name), weights));
}

void DenoisingPipeline::SetDefaults(const FamilyDefaults& family, const std::string& profile) {
  family_ = family;
  info_.makes_videos = family.makes_videos();
  info_.needs_image = family.needs_image;
  info_.default_profile = folder_.defaults().profile.value_or(profile);
  const GenerationSettings settings = Settings({});
  info_.defaults = {
      {"width", std::to_string(settings.width)},
      {"height", std::to_string(settings.height)},
      {"steps", std::to_string(settings.steps)},
      {"max_sequence_length", std::to_string(settings.max_sequence_length)},
      {"true_cfg_scale", fmt::format("{}", settings.true_cfg_scale)},
      {"guidance_scale", fmt::format("{}", settings.guidance_scale)},
  };
  if (info_.makes_videos) {
    info_.defaults["num_frames"] = std::to_string(settings.num_frames);
    info_.defaults["fps"] = fmt::format("{}", settings.fps);
  }
}

void DenoisingPipeline::SetScheduler(SchedulerConventions conventions) {
  const JsonObject index = JsonObject::Load(folder_.path() / "model_index.json");
  scheduler_ = SchedulerFactory::Read(index, folder_.Config("scheduler"), std::move(conventions));
  info_.scheduler = scheduler_->class_name();
}

void DenoisingPipeline::CheckTransformerField(const char* field, int64_t found, const char* where,
                                              int64_t expected) const {
  if (found != expected) {
    Fail(ErrorCode::kInvalidFile, "{}: transformer: field '{}' is {}, but {} gives {}",
         folder_.path().string(), field, found, where, expected);
  }
}

GenerationSettings DenoisingPipeline::Settings(const GenerateOptions& options) const {
  return ResolveSettings(options, folder_.defaults(), family_);
}

SparsityConfig DenoisingPipeline::Sparsity(const GenerateOptions& options) const {
  return ChooseSparsity(options.sparsity, info_.default_profile, options.overrides);
}

Placement DenoisingPipeline::PlacementFor(const GenerateOptions& options) const {
  const Device device = ParseDevice(options.device);
  if (device.type == DeviceType::kCpu) return {};
  const Weights* weights = GpuWeights();
  if (weights == nullptr) {
    Fail(ErrorCode::kUnsupported, "device: {} runs on the CPU only, found {}", info_.family,
         options.device);
  }
  CheckDevice(device);
  return PlacementOn(device, weights->MainDType());
}

DenoisingPipeline::Plan DenoisingPipeline::BeginPlan(const GenerateOptions& options) const {
  Plan plan;
  plan.settings = Settings(options);
  plan.num_images = options.num_images;
  plan.sparsity = Sparsity(options);
  plan.placement = PlacementFor(options);
  plan.coder = PlacementOn(plan.placement.device, DType::kBF16);
  plan.latents = LatentsOf(plan.settings);
  if (plan.latents.tokens() > kMaxImageTokens) {
    Fail(ErrorCode::kOutOfMemory, "{} are {} tokens; no machine has the memory for more than {}",
         plan.settings.SizeText(), plan.latents.tokens(), kMaxImageTokens);
  }
  return plan;
}

DenoisingPipeline::Plan DenoisingPipeline::MakePlan(const GenerateOptions& options) const {
  Plan plan = BeginPlan(options);
  const SparseGeometry geometry = Geometry(plan.settings.max_sequence_length, plan.latents.grid());
  plan.geometries.assign(plan.settings.use_true_cfg() ? 2 : 1, geometry);

  const StageBytes denoiser = PlanDenoiser(plan.settings, plan.latents, plan.placement);
  const StageBytes decoder = PlanDecoder(plan.latents, plan.coder);
  plan.image_encoder = PlanImageEncoder(plan.latents);
  const size_t op_scratch = plan.placement.IsOnGpu()
                                ? GpuScratchBytes(geometry, plan.placement)
                                : CpuScratchBytes(geometry, plan.sparsity, options.threads);
  plan.state = SparseSession::Plan(plan.sparsity, plan.geometries, plan.placement);
  plan.denoiser_workspace = denoiser.workspace + op_scratch + plan.state.workspace_bytes;
  plan.decoder_workspace = decoder.workspace;
  plan.memory = MakeMemoryPlan(plan, denoiser, decoder);
  if (options.max_memory_bytes > 0 && plan.memory.peak_bytes > options.max_memory_bytes &&
      plan.state.TotalBytes() > 0 && !plan.placement.IsOnGpu()) {
    plan.state_place = StatePlace::kFile;
    plan.memory = MakeMemoryPlan(plan, denoiser, decoder);
  }
  size_t loaded = program_bytes_;
  for (const ComponentInfo& component : info_.components) loaded += component.bytes;
  plan.new_bytes = plan.memory.peak_bytes - loaded;
  return plan;
}

DenoisingPipeline::Plan DenoisingPipeline::MakeDecodePlan(const GenerateOptions& options) const {
  GenerateOptions dense = options;
  dense.sparsity = "off";
  dense.overrides.clear();
  Plan plan = BeginPlan(dense);
  const StageBytes decoder = PlanDecoder(plan.latents, plan.coder);
  plan.decoder_workspace = decoder.workspace;
  const auto add = [&](std::string name, size_t bytes) {
    plan.memory.entries.push_back({std::move(name), bytes});
    plan.memory.peak_bytes += bytes;
    return bytes;
  };
  add("program and libraries", program_bytes_);
  for (const ComponentInfo& component : info_.components) {
    if (component.name == "vae") add("weights of vae (mapped)", component.bytes);
  }
  const size_t pixels = static_cast<size_t>(plan.settings.width) * plan.settings.height;
  plan.new_bytes = add("kernels compiled at run time and their scratch", kRuntimeBytes);
  plan.new_bytes += add("latents", sizeof(float) * static_cast<size_t>(plan.latents.size()));
  plan.new_bytes += add("decoder and its workspace",
                        decoder.held + (plan.placement.IsOnGpu() ? 0 : decoder.workspace));
  plan.new_bytes +=
      add(info_.makes_videos ? "film" : "picture", pixels * 3 * plan.settings.num_frames);
  if (plan.placement.IsOnGpu()) PlanDeviceMemory(plan, {}, decoder, plan.memory);
  return plan;
}

MemoryPlan DenoisingPipeline::MakeMemoryPlan(const Plan& plan, const StageBytes& denoiser,
                                             const StageBytes& decoder) const {
  MemoryPlan memory;
  const auto add = [&](std::string name, size_t bytes) {
    memory.entries.push_back({std::move(name), bytes});
    return bytes;
  };
  size_t always = add("program and libraries", program_bytes_);
  always += add("kernels compiled at run time and their scratch", kRuntimeBytes);
  for (const ComponentInfo& component : info_.components) {
    always += add("weights of " + component.name + " (mapped)", component.bytes);
  }
  for (const Component& component : components_) {
    const auto widened = static_cast<size_t>(component.weights.WidenedBytes());
    if (widened > 0) always += add("weights of " + component.name + ", widened", widened);
  }
  const bool is_on_gpu = plan.placement.IsOnGpu();
  if (plan.sparsity.mlp.is_enabled && !is_on_gpu) {
    always += add("weights prepared for sparse MLPs", SparsityWeightBytes(plan.placement));
  }
  // Noise, latents in both orders, two predictions and what the scheduler remembers.
  const auto scheduler = scheduler_->Make(plan.settings.steps, plan.latents.tokens());
  always += add("latents", 5 * sizeof(float) * static_cast<size_t>(plan.latents.size()) +
                               scheduler->HistoryBytes(plan.latents.size()));
  if (scheduler->DrawsNoise()) {
    always += add("noise of the steps", NoiseStream::Bytes(plan.latents, plan.num_images));
  }
  size_t encoding = 0;
  if (info_.needs_image) {
    always += add("picture, encoded", plan.image_encoder.held);
    encoding = add("workspace of the picture's encoders", plan.image_encoder.workspace);
  }
  size_t denoising = add("rotary tables and text embeddings", denoiser.held);
  if (is_on_gpu) {
    PlanDeviceMemory(plan, denoiser, decoder, memory);
  } else if (plan.state_place == StatePlace::kFile) {
    denoising += add("state in memory at one time", plan.state.spill_resident_bytes);
    memory.spill_bytes = plan.state.spill_bytes;
  } else {
    for (const StatePlan::Entry& entry : plan.state.entries) {
      denoising += add("state: " + entry.name, entry.bytes);
    }
  }
  if (!is_on_gpu) denoising += add("workspace of the transformer", plan.denoiser_workspace);
  const size_t pixels = static_cast<size_t>(plan.settings.width) * plan.settings.height;
  const size_t decoding =
      add("decoder and its workspace", decoder.held + (is_on_gpu ? 0 : decoder.workspace)) +
      add(info_.makes_videos ? "film" : "picture", pixels * 3 * plan.settings.num_frames);
  memory.peak_bytes = always + std::max({encoding, denoising, decoding});
  return memory;
}

void DenoisingPipeline::PlanDeviceMemory(const Plan& plan, const StageBytes& denoiser,
                                         const StageBytes& decoder, MemoryPlan& memory) const {
  const auto add = [&](std::string name, size_t bytes) {
    memory.device_entries.push_back({std::move(name), bytes});
    memory.device_bytes += bytes;
  };
  for (const Component& component : components_) {
    add("weights of " + component.name, component.weights.DeviceBytes(plan.placement));
  }
  if (plan.sparsity.mlp.is_enabled) {
    add("weights prepared for sparse MLPs", SparsityWeightBytes(plan.placement));
  }
  add("latents", 3 * sizeof(float) * static_cast<size_t>(plan.latents.size()));
  add("rotary tables and text embeddings", denoiser.held);
  for (const StatePlan::Entry& entry : plan.state.entries) {
    add("state: " + entry.name, entry.bytes);
  }
  // The three stages follow each other; the greediest counts.
  add("workspace of the greediest stage",
      std::max({plan.denoiser_workspace, decoder.workspace, PlanTextEncoders(plan.settings)}));
}

void DenoisingPipeline::CheckMemory(const Plan& plan, const GenerateOptions& options) const {
  const MemoryNeed need{.resident_bytes = plan.memory.peak_bytes,
                        .new_bytes = plan.new_bytes + kSlackBytes,
                        .file_bytes = plan.memory.spill_bytes,
                        .threads = Context(options.threads).threads()};
  std::vector<MemoryLimit> limits = MemoryLimits();
  if (options.max_memory_bytes > 0) {
    limits.insert(limits.begin(),
                  {MemoryLimit::Kind::kResident, "max_memory", options.max_memory_bytes});
  }
  if (const MemoryLimit* limit = FindExceeded(limits, need)) {
    const bool is_space = limit->kind == MemoryLimit::Kind::kAddressSpace;
    Fail(
        ErrorCode::kOutOfMemory,
        "{} need {} of {}, but {} is {}: raise it, or choose a smaller size{} (`tamias inspect` "
        "shows the plan)",
        plan.settings.SizeText(), BytesText(BytesUnder(*limit, need)),
        is_space ? "address space" : "memory", limit->name, BytesText(limit->bytes),
        need.threads > 1 && limit->kind != MemoryLimit::Kind::kResident ? " or fewer threads" : "");
  }
  GrowStack();
  CheckThreads(need.threads);
  if (!plan.placement.IsOnGpu()) return;
  const size_t on_gpu = cuda::PropertiesOf(plan.placement.device.index).memory_bytes;
  if (plan.memory.device_bytes > on_gpu) {
    Fail(ErrorCode::kOutOfMemory,
         "{} need {} of GPU memory, {} has {} (`tamias inspect` shows the plan)",
         plan.settings.SizeText(), BytesText(plan.memory.device_bytes), options.device,
         BytesText(on_gpu));
  }
}

void DenoisingPipeline::Prepare(const Plan& plan, int threads) const {
  const std::lock_guard lock(prepare_mutex_);
  Context context(plan.placement, threads);
  const auto once = [&](std::vector<Device>& done, const auto& prepare) {
    if (std::ranges::find(done, context.device()) != done.end()) return;
    prepare();
    done.push_back(context.device());
  };
  if (context.IsOnGpu()) {
    once(loaded_, [&] {
      Context coder(plan.coder, threads);
      LoadOnGpu(context, coder);
    });
  }
  if (plan.sparsity.mlp.is_enabled) {
    once(prepared_for_sparsity_, [&] { PrepareForSparsity(context); });
  }
  context.Synchronize();
}

GenerateResult DenoisingPipeline::Generate(const GenerateOptions& options,
                                           const ProgressCallback& progress) const {
  if (info_.needs_image && !options.image) {
    Fail(ErrorCode::kInvalidArgument,
         "image: this model makes films of a picture, and none is given");
  }
  const Plan plan = MakePlan(options);
  CheckMemory(plan, options);
  GenerationClock clock(progress, options.num_images);
  GenerateResult result;
  result.planned_memory_bytes = plan.memory.peak_bytes;
  result.planned_device_memory_bytes = plan.memory.device_bytes;
  Prepare(plan, options.threads);
  std::vector<PromptEmbedding> prompts;
  {
    Context context(plan.coder, options.threads);
    prompts = EncodePrompts(context, options, plan, clock);
  }
  const ImageCondition condition = EncodePicture(options, plan, clock);
  std::vector<SparseGeometry> geometries;
  for (const PromptEmbedding& prompt : prompts) {
    geometries.push_back(Geometry(prompt.sequence.dim(1), plan.latents.grid()));
  }
  result.seconds_encode = clock.Seconds();
  GenerationReport report(PngText(options, 0).at("tamias"), plan.placement.device);
  for (int image = 0; image < options.num_images; ++image) {
    Tensor latents;
    {
      Context context(plan.placement, options.threads, plan.denoiser_workspace);
      SparseSession session(context, plan.sparsity, geometries, plan.state_place);
      if (image == 0) result.seconds_to_first_step = clock.Seconds();
      latents = Denoise(context, plan, prompts, condition, options, image, session, clock);
      result.seconds_denoise += clock.StageSeconds();
      report.AddImage(session.report());
    }
    result.latents.push_back(ToLatents(latents));
    if (options.on_latents) options.on_latents(result, image);
    DecodeLast(plan, options, latents, report, clock, result);
  }
  result.seconds_total = clock.Seconds();
  report.Finish(result);
  return result;
}

GenerateResult DenoisingPipeline::DecodeLatents(const SavedLatents& latents,
                                                const GenerateOptions& options,
                                                const ProgressCallback& progress) const {
  const GenerateOptions complete = WithSavedSize(latents, options, info_);
  const Plan plan = MakeDecodePlan(complete);
  CheckSavedLatents(latents, plan.latents, plan.settings.SizeText());
  CheckMemory(plan, complete);
  GenerationClock clock(progress, static_cast<int>(latents.latents.size()));
  GenerateResult result;
  result.planned_memory_bytes = plan.memory.peak_bytes;
  result.planned_device_memory_bytes = plan.memory.device_bytes;
  Prepare(plan, complete.threads);
  GenerationReport report(PngText(complete, 0).at("tamias"), plan.placement.device);
  for (const Latents& one : latents.latents) {
    result.latents.push_back(one);
    const Tensor packed = Tensor::CopyOf(
        ConstTensorView(one.values.data(), DType::kF32, {1, one.tokens, one.channels}));
    DecodeLast(plan, complete, packed, report, clock, result);
  }
  return result;
}

void DenoisingPipeline::DecodeLast(const Plan& plan, const GenerateOptions& options,
                                   ConstTensorView latents, GenerationReport& report,
                                   GenerationClock& clock, GenerateResult& result) const {
  const int image = static_cast<int>(result.latents.size()) - 1;
  if (options.decode) {
    std::vector<Image> frames = DecodeFrames(plan, latents, options.threads, image, clock);
    if (info_.makes_videos) {
      result.videos.push_back({plan.settings.fps, std::move(frames)});
    } else {
      result.images.push_back(std::move(frames.front()));
    }
    result.seconds_decode += clock.StageSeconds();
  }
  result.seconds_total = clock.Seconds();
  report.Finish(result);
  if (options.on_result) options.on_result(result, image);
}

std::vector<PromptEmbedding> DenoisingPipeline::EncodePrompts(Context& context,
                                                              const GenerateOptions& options,
                                                              const Plan& plan,
                                                              GenerationClock& clock) const {
  const GenerationSettings& settings = plan.settings;
  clock.BeginStage(Stage::kEncodePrompt, 0,
                   (settings.use_true_cfg() ? 2 : 1) + NumImagePieces(plan.latents));
  std::vector<PromptEmbedding> prompts;
  const auto encode = [&](const std::string& text) {
    const PromptEmbedding& prompt = prompts.emplace_back(EncodePrompt(context, text, settings));
    CheckFinite(prompt.sequence, "the text embedding", context);
    if (!prompt.pooled.empty()) CheckFinite(prompt.pooled, "the pooled text embedding", context);
    clock.EndStep();
  };
  encode(options.prompt);
  if (settings.use_true_cfg()) encode(options.negative_prompt);
  return prompts;
}

ImageCondition DenoisingPipeline::EncodePicture(const GenerateOptions& options, const Plan& plan,
                                                GenerationClock& clock) const {
  if (!options.image) return {};
  Context context(options.threads, plan.image_encoder.workspace);
  ImageCondition condition =
      EncodeImage(context, *options.image, plan.latents, [&] { clock.EndStep(); });
  CheckFinite(condition.embedding, "the picture's embedding", context);
  CheckFinite(condition.latents, "the picture's latents", context);
  return condition;
}

Tensor DenoisingPipeline::Denoise(Context& context, const Plan& plan,
                                  const std::vector<PromptEmbedding>& prompts,
                                  const ImageCondition& condition, const GenerateOptions& options,
                                  int image, SparseSession& session, GenerationClock& clock) const {
  const GenerationSettings& settings = plan.settings;
  Context host(options.threads);
  std::vector<PromptEmbedding> uploaded;
  if (context.IsOnGpu()) {
    for (const PromptEmbedding& prompt : prompts) uploaded.push_back(CopyToDevice(context, prompt));
  }
  const TokenOrder& order = session.token_order();
  const std::unique_ptr<Denoiser> denoiser =
      MakeDenoiser(context, settings, plan.latents, order, condition);
  NoiseStream stream(plan.latents, options.seed, image, options.num_images);
  const bool draws_packed = scheduler_->conventions().draws_packed_noise;
  const std::unique_ptr<FlowScheduler> scheduler =
      scheduler_->Make(settings.steps, plan.latents.tokens(), [&](TensorView drawn) {
        order.Apply(host, draws_packed ? stream.NextPacked() : stream.NextLatents(), drawn);
      });

  Tensor noise = stream.NextLatents();
  Tensor latents(noise.shape(), DType::kF32);
  order.Apply(host, noise, latents);
  Tensor prediction = Tensor::Zeros(latents.shape(), DType::kF32);
  Tensor negative(settings.use_true_cfg() ? latents.shape() : Shape{0}, DType::kF32);
  DeviceMirror model_input(context, latents);
  DeviceMirror model_prediction(context, prediction), model_negative(context, negative);

  clock.BeginStage(Stage::kDenoise, image, scheduler->num_steps());
  for (int step = 0; step < scheduler->num_steps(); ++step) {
    session.BeginStep(step, scheduler->sigma(step));
    model_input.Upload(context);
    const auto predict = [&](int invocation, DeviceMirror& out) {
      const auto& embeddings = context.IsOnGpu() ? uploaded : prompts;
      denoiser->Predict(context, scheduler->timestep(step),
                        embeddings[static_cast<size_t>(invocation)], model_input.device(),
                        session.invocation(invocation), out.device());
      out.Download(context);
    };
    predict(0, model_prediction);
    if (settings.use_true_cfg()) {
      predict(1, model_negative);
      Guide(settings.true_cfg_scale, negative, prediction);
    }
    if (options.on_prediction) {
      order.Invert(host, prediction, noise);
      options.on_prediction(
          {.image = image,
           .step = step,
           .sigma = scheduler->sigma(step),
           .next_sigma = scheduler->sigma(step + 1),
           .values = {noise.host_data<float>(), static_cast<size_t>(noise.NumElements())}});
    }
    scheduler->Step(host, step, prediction, latents);
    session.EndStep();
    CheckFinite(latents, "the latents", host);
    clock.EndStep(std::string(Name(session.report().steps.back().kind)));
  }
  order.Invert(host, latents, noise);
  return noise;
}

std::vector<Image> DenoisingPipeline::DecodeFrames(const Plan& plan, ConstTensorView latents,
                                                   int threads, int image,
                                                   GenerationClock& clock) const {
  Context context(plan.coder, threads, plan.decoder_workspace);
  std::vector<Image> frames;
  const FrameSink sink = [&](ConstTensorView pixels) {
    CheckFinite(pixels, "the picture", context);
    for (int64_t i = 0; i < pixels.dim(0); ++i) frames.push_back(ToImage(pixels.Select(0, i)));
  };
  clock.BeginStage(Stage::kDecode, image, NumDecodePieces(plan.latents));
  Decode(context, plan.latents, latents, sink, [&] { clock.EndStep(); });
  TAMIAS_CHECK(static_cast<int>(frames.size()) == plan.settings.num_frames);
  return frames;
}

// Non-finite values come from broken weights more often than from anything else: name the tensor.
void DenoisingPipeline::CheckFinite(ConstTensorView values, const char* what,
                                    const Context& context) const {
  const float* begin = values.host_data<float>();
  if (std::all_of(begin, begin + values.NumElements(), [](float x) { return std::isfinite(x); })) {
    return;
  }
  for (const Component& component : components_) component.weights.CheckFinite(context);
  Fail(ErrorCode::kInvalidFile,
       "{}: {} became infinite or not a number, though all weights are finite",
       folder_.path().string(), what);
}

MemoryPlan DenoisingPipeline::PlanMemory(const GenerateOptions& options) const {
  return MakePlan(options).memory;
}

int64_t DenoisingPipeline::NumImageTokens(const GenerateOptions& options) const {
  return LatentsOf(Settings(options)).tokens();
}

int64_t DenoisingPipeline::NumTextTokens(const GenerateOptions& options) const {
  return Settings(options).max_sequence_length;
}

int DenoisingPipeline::NumSteps(const GenerateOptions& options) const {
  return scheduler_->Make(Settings(options).steps, NumImageTokens(options))->num_steps();
}

std::string DenoisingPipeline::SparsityYaml(const GenerateOptions& options) const {
  const SparsityConfig config = Sparsity(options);
  return config.IsAnythingEnabled() ? WriteYaml(config) : "";
}

std::vector<std::string> DenoisingPipeline::Warnings(const GenerateOptions& options) const {
  const GenerationSettings settings = Settings(options);
  const SparsityConfig config = Sparsity(options);
  std::vector<std::string> warnings;
  if (config.IsAnythingEnabled()) {
    warnings =
        ConfigWarnings(config, {.is_on_gpu = ParseDevice(options.device).type == DeviceType::kCuda,
                                .num_steps = NumSteps(options),
                                .num_invocations = settings.use_true_cfg() ? 2 : 1});
  }
  if (!scheduler_->other_class().empty()) {
    warnings.push_back(
        fmt::format("{} runs, as model_index.json says; scheduler_config.json was written by {}",
                    scheduler_->class_name(), scheduler_->other_class()));
  }
  if (options.guidance_scale && !HasGuidanceEmbedding()) {
    warnings.emplace_back(
        "guidance_scale has no effect: the model has no guidance embedding (true_cfg_scale has)");
  }
  if (!options.negative_prompt.empty() && !settings.use_true_cfg()) {
    warnings.emplace_back("negative_prompt has no effect while true_cfg_scale is not above 1");
  }
  for (const ComponentInfo& component : info_.components) {
    if (component.variant == folder_.variant() || folder_.variant().empty()) continue;
    warnings.push_back(fmt::format("{} has no weights of the variant '{}'; its plain ones are read",
                                   component.name, folder_.variant()));
  }
  if (IsCut(options.prompt, settings)) {
    warnings.push_back(fmt::format("the prompt is longer than {} tokens; its end has no effect",
                                   settings.max_sequence_length));
  }
  if (const int cpus = UsableCpus(); options.threads > cpus) {
    warnings.push_back(
        fmt::format("{} threads share the {} CPU{} that this process may use: fewer "
                    "are faster",
                    options.threads, cpus, cpus == 1 ? "" : "s"));
  }
  return warnings;
}

std::map<std::string, std::string> DenoisingPipeline::PngText(const GenerateOptions& options,
                                                              int image) const {
  const GenerationSettings settings = Settings(options);
  nlohmann::ordered_json json;
  json["model"] = folder_.name();
  json["prompt"] = options.prompt;
  json["negative_prompt"] = options.negative_prompt;
  json["width"] = settings.width;
  json["height"] = settings.height;
  if (info_.makes_videos) {
    json["num_frames"] = settings.num_frames;
    json["fps"] = settings.fps;
  }
  if (options.image) {
    json["picture"] = fmt::format("{}x{}", options.image->width, options.image->height);
  }
  json["steps"] = settings.steps;
  json["true_cfg_scale"] = settings.true_cfg_scale;
  json["guidance_scale"] = settings.guidance_scale;
  json["max_sequence_length"] = settings.max_sequence_length;
  json["seed"] = options.seed;
  json["num_images"] = options.num_images;
  json["image"] = image;
  json["sparsity"] = options.sparsity == "auto" ? info_.default_profile : options.sparsity;
  json["set"] = options.overrides;
  json["version"] = Version();
  return {{"Software", "Tamias " + Version()},
          {"Description", options.prompt},
          {"tamias", json.dump()}};
}

std::map<std::string, std::string> DenoisingPipeline::LatentsText(const GenerateOptions& options,
                                                                  int image) const {
  const GenerationSettings settings = Settings(options);
  std::map<std::string, std::string> text = {{"family", info_.family},
                                             {"width", std::to_string(settings.width)},
                                             {"height", std::to_string(settings.height)},
                                             {"num_frames", std::to_string(settings.num_frames)},
                                             {"tamias", PngText(options, image).at("tamias")}};
  if (info_.makes_videos) text["fps"] = fmt::format("{}", settings.fps);
  return text;
}

}  // namespace tamias
