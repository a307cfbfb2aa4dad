#include "pipeline/flux_pipeline.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/machine.h"
#include "models/rotary_positions.h"
#include "ops/attention.h"
#include "ops/linear.h"
#include "pipeline/generation_report.h"
#include "pipeline/sparsity_choice.h"

namespace tamias {
namespace {

constexpr int64_t kPackedPixels = 2;  // a token is 2 x 2 latent pixels
// What oneDNN's compiled kernels, its scratch and the libraries' touched pages add while a
// generation runs: 13 to 23 MB measured from 128x128 to 512x512 pixels, dense and accelerated.
constexpr size_t kRuntimeBytes = size_t{16} << 20;
// Beyond this even the plan's own tables are too large; FLUX.1 at 2304x1280 has 11,520.
constexpr int64_t kMaxImageTokens = int64_t{1} << 20;

// prediction <- negative + scale (prediction - negative), in place (Ho and Salimans, 2207.12598).
void Guide(double scale, ConstTensorView negative, TensorView prediction) {
  const auto s = static_cast<float>(scale);
  const float* from = negative.data<float>();
  float* to = prediction.data<float>();
  for (int64_t i = 0; i < prediction.NumElements(); ++i) to[i] = from[i] + s * (to[i] - from[i]);
}

uint8_t ToByte(float value) {
  return static_cast<uint8_t>(std::lround(255 * std::clamp(value / 2 + 0.5f, 0.0f, 1.0f)));
}

Latents ToLatents(const Tensor& tensor) {
  const float* values = tensor.data<float>();
  return {tensor.dim(1), tensor.dim(2), {values, values + tensor.NumElements()}};
}

ComponentInfo Describe(const char* name, const JsonObject& config, const Weights& weights) {
  const std::vector<std::string> names = weights.names();
  std::map<std::string, int64_t> elements;  // by dtype
  for (const std::string& tensor : names) {
    const ConstTensorView view = weights.Get(tensor);
    elements[std::string(Name(view.dtype()))] += view.NumElements();
  }
  const auto most =
      std::ranges::max_element(elements, {}, &std::pair<const std::string, int64_t>::second);
  std::string class_name = config.StringOr("_class_name", "");
  if (class_name.empty()) class_name = config.StringArrayOr("architectures", {"?"}).front();
  return {name, class_name, static_cast<size_t>(weights.TotalParameters()),
          static_cast<size_t>(weights.TotalBytes()), most == elements.end() ? "" : most->first};
}

}  // namespace

FluxPipeline::FluxPipeline(const ModelFolder& folder)
    : folder_(folder),
      program_bytes_(ResidentBytes()),
      text_(folder),
      transformer_weights_(Weights::Open(folder.Component("transformer"))),
      vae_weights_(Weights::Open(folder.Component("vae"))),
      transformer_(FluxTransformerConfig::FromJson(folder.Config("transformer")),
                   transformer_weights_),
      vae_(AutoencoderKlConfig::FromJson(folder.Config("vae")), vae_weights_),
      scheduler_(FlowMatchEulerConfig::FromJson(folder.Config("scheduler"))) {
  family_.size_multiple = static_cast<int>(vae_.config().scale_factor() * kPackedPixels);
  const FluxTransformerConfig& config = transformer_.config();
  const auto check = [&](const char* field, int64_t found, const char* where, int64_t expected) {
    if (found != expected) {
      Fail(ErrorCode::kInvalidFile, "{}: transformer: field '{}' is {}, but {} gives {}",
           folder.path().string(), field, found, where, expected);
    }
  };
  check("in_channels", config.in_channels, "the VAE",
        kPackedPixels * kPackedPixels * vae_.config().latent_channels);
  check("out_channels", config.out_channels, "the VAE", config.in_channels);
  check("joint_attention_dim", config.joint_attention_dim, "text_encoder_2", text_.sequence_dim());
  check("pooled_projection_dim", config.pooled_projection_dim, "text_encoder", text_.pooled_dim());
  DescribeModel();
}

std::unique_ptr<PipelineFamily> LoadFluxPipeline(const ModelFolder& folder) {
  return std::make_unique<FluxPipeline>(folder);
}

void FluxPipeline::DescribeModel() {
  info_.family = folder_.family();
  info_.components = {
      Describe("text_encoder", folder_.Config("text_encoder"), text_.clip_weights()),
      Describe("text_encoder_2", folder_.Config("text_encoder_2"), text_.t5_weights()),
      Describe("transformer", folder_.Config("transformer"), transformer_weights_),
      Describe("vae", folder_.Config("vae"), vae_weights_),
  };
  info_.default_profile = folder_.defaults().profile.value_or("flux-1-dev");
  const GenerationSettings settings = ResolveSettings({}, folder_.defaults(), family_);
  info_.defaults = {
      {"width", std::to_string(settings.width)},
      {"height", std::to_string(settings.height)},
      {"steps", std::to_string(settings.steps)},
      {"max_sequence_length", std::to_string(settings.max_sequence_length)},
      {"true_cfg_scale", fmt::format("{}", settings.true_cfg_scale)},
      {"guidance_scale", fmt::format("{}", settings.guidance_scale)},
  };
}

FluxLatentShape FluxPipeline::LatentShape(const GenerationSettings& settings) const {
  const int64_t scale = vae_.config().scale_factor();
  return {vae_.config().latent_channels, settings.height / scale, settings.width / scale};
}

FluxPipeline::Plan FluxPipeline::MakePlan(const GenerateOptions& options) const {
  Plan plan;
  plan.settings = ResolveSettings(options, folder_.defaults(), family_);
  plan.sparsity = ChooseSparsity(options.sparsity, info_.default_profile, options.overrides);
  plan.latents = LatentShape(plan.settings);
  if (plan.latents.tokens() > kMaxImageTokens) {
    Fail(ErrorCode::kOutOfMemory,
         "{}x{} pixels are {} image tokens; no machine has the memory for more than {}",
         plan.settings.width, plan.settings.height, plan.latents.tokens(), kMaxImageTokens);
  }
  plan.geometry = transformer_.Geometry(1, plan.settings.max_sequence_length,
                                        {1, plan.latents.rows(), plan.latents.columns()});
  plan.geometry.num_invocations = plan.settings.use_true_cfg() ? 2 : 1;
  const FluxTransformerConfig& config = transformer_.config();
  const int64_t text = plan.settings.max_sequence_length;
  const int64_t tokens = plan.geometry.joint_tokens();
  const int threads = Context(options.threads).threads();
  const size_t op_scratch =
      std::max(LinearWorkspaceBytes(tokens, config.model_dim() + config.mlp_dim(),
                                    config.model_dim(), DType::kF16),
               AttentionWorkspaceBytes(threads, config.attention_head_dim,
                                       config.num_attention_heads * (tokens / 192 + 1)));
  plan.transformer_workspace = transformer_.PlanBytes(1, text, plan.latents.tokens()) + op_scratch +
                               SparseSession::Plan(plan.sparsity, plan.geometry).workspace_bytes;
  plan.decoder_workspace = vae_.PlanBytes(plan.latents.height, plan.latents.width);
  plan.memory = MakeMemoryPlan(plan);
  return plan;
}

MemoryPlan FluxPipeline::MakeMemoryPlan(const Plan& plan) const {
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
  if (plan.sparsity.mlp.is_enabled) {
    always += add("weights prepared for sparse MLPs", transformer_.SparsityWeightBytes());
  }
  const auto tokens = static_cast<size_t>(plan.latents.tokens());
  const auto channels = static_cast<size_t>(plan.latents.token_channels());
  // Noise, latents in both orders and two predictions; rotary tables, embeddings.
  always += add("latents", 5 * sizeof(float) * tokens * channels);
  const FluxTransformerConfig& config = transformer_.config();
  size_t denoising =
      add("rotary tables and text embeddings",
          sizeof(float) *
              (2 * static_cast<size_t>(plan.geometry.joint_tokens() * config.attention_head_dim) +
               2 * static_cast<size_t>(plan.settings.max_sequence_length *
                                       config.joint_attention_dim)));
  for (const StatePlan::Entry& entry : SparseSession::Plan(plan.sparsity, plan.geometry).entries) {
    denoising += add("state: " + entry.name, entry.bytes);
  }
  denoising += add("workspace of the transformer", plan.transformer_workspace);
  const size_t pixels = static_cast<size_t>(plan.settings.width) * plan.settings.height;
  const size_t decoding = add("workspace of the decoder", plan.decoder_workspace) +
                          add("picture", pixels * 3 * (sizeof(float) + sizeof(uint8_t)));
  memory.peak_bytes = always + std::max(denoising, decoding);
  return memory;
}

void FluxPipeline::CheckMemory(const Plan& plan) const {
  constexpr double kGiB = 1024.0 * 1024 * 1024;
  const size_t available = PhysicalMemoryBytes();
  if (plan.memory.peak_bytes > available) {
    Fail(ErrorCode::kOutOfMemory,
         "{}x{} pixels need {:.1f} GiB of memory, this machine has {:.1f} GiB (`tamias inspect` "
         "shows the plan)",
         plan.settings.width, plan.settings.height,
         static_cast<double>(plan.memory.peak_bytes) / kGiB, static_cast<double>(available) / kGiB);
  }
}

GenerateResult FluxPipeline::Generate(const GenerateOptions& options,
                                      const ProgressCallback& progress) const {
  const Plan plan = MakePlan(options);
  CheckMemory(plan);
  GenerationClock clock(progress, options.num_images);
  GenerateResult result;
  result.planned_memory_bytes = plan.memory.peak_bytes;
  Prompts prompts;
  {
    Context context(options.threads);
    prompts = EncodePrompts(context, options, plan.settings, clock);
    if (plan.sparsity.mlp.is_enabled) {
      std::call_once(prepared_, [&] { transformer_.PrepareForSparsity(context); });
    }
  }
  result.seconds_encode = clock.Seconds();
  GenerationReport report(PngText(options, 0).at("tamias"));
  for (int image = 0; image < options.num_images; ++image) {
    auto session = std::make_unique<SparseSession>(plan.sparsity, plan.geometry);
    if (image == 0) result.seconds_to_first_step = clock.Seconds();
    const Tensor latents = Denoise(plan, prompts, options, image, *session, clock);
    result.seconds_denoise += clock.StageSeconds();
    report.AddImage(session->report());
    session.reset();
    result.latents.push_back(ToLatents(latents));
    if (!options.decode) continue;
    result.images.push_back(
        Decode(plan, latents, Context(options.threads).threads(), image, clock));
    result.seconds_decode += clock.StageSeconds();
  }
  result.seconds_total = clock.Seconds();
  report.Finish(result);
  return result;
}

FluxPipeline::Prompts FluxPipeline::EncodePrompts(Context& context, const GenerateOptions& options,
                                                  const GenerationSettings& settings,
                                                  GenerationClock& clock) const {
  clock.BeginStage(Stage::kEncodePrompt, 0, settings.use_true_cfg() ? 2 : 1);
  Prompts prompts;
  const auto encode = [&](const std::string& text) {
    FluxPromptEmbedding embedding = text_.Encode(context, text, settings.max_sequence_length);
    CheckFinite(embedding.sequence, "the text embedding", context);
    CheckFinite(embedding.pooled, "the pooled text embedding", context);
    clock.EndStep();
    return embedding;
  };
  prompts.positive = encode(options.prompt);
  if (settings.use_true_cfg()) prompts.negative = encode(options.negative_prompt);
  return prompts;
}

Tensor FluxPipeline::Denoise(const Plan& plan, const Prompts& prompts,
                             const GenerateOptions& options, int image, SparseSession& session,
                             GenerationClock& clock) const {
  const GenerationSettings& settings = plan.settings;
  Context context(options.threads, plan.transformer_workspace);
  const TokenOrder& order = session.token_order();
  const int64_t text = settings.max_sequence_length;

  Tensor noise = FluxNoise(plan.latents, options.seed, image, options.num_images);
  Tensor latents(noise.shape(), DType::kF32);
  order.Apply(context, noise, latents);
  const Tensor row_positions = FluxPositions(plan.latents, text);
  Tensor positions = Tensor::CopyOf(row_positions);
  const auto image_rows = [&](auto view) {
    return view.Slice(0, text, text + plan.latents.tokens()).SplitAxis(0, 1, plan.latents.tokens());
  };
  order.Apply(context, image_rows(row_positions.view()), image_rows(positions.view()));
  const RotaryTable rotary = RotaryPositions(positions, transformer_.config().axes_dims_rope);

  FlowMatchEuler scheduler(scheduler_, settings.steps, plan.latents.tokens());
  Tensor prediction = Tensor::Zeros(latents.shape());
  Tensor negative(settings.use_true_cfg() ? latents.shape() : Shape{0}, DType::kF32);
  const auto forward = [&](int step, const FluxPromptEmbedding& prompt, int invocation,
                           TensorView out) {
    transformer_.Forward(context,
                         {.hidden_states = latents,
                          .encoder_hidden_states = prompt.sequence,
                          .pooled_projections = prompt.pooled,
                          .timestep = scheduler.timestep(step) / 1000,
                          .guidance = static_cast<float>(settings.guidance_scale),
                          .rotary_cos = rotary.cos,
                          .rotary_sin = rotary.sin},
                         session.invocation(invocation), out);
  };

  clock.BeginStage(Stage::kDenoise, image, settings.steps);
  for (int step = 0; step < settings.steps; ++step) {
    const bool is_skipped = session.BeginStep(step, scheduler.sigma(step)) == StepKind::kSkip;
    const auto predict = [&](const FluxPromptEmbedding& prompt, int invocation, TensorView out) {
      if (is_skipped) {
        session.invocation(invocation).CachedPrediction(context, out);
      } else {
        forward(step, prompt, invocation, out);
      }
    };
    predict(prompts.positive, 0, prediction);
    if (settings.use_true_cfg()) {
      predict(prompts.negative, 1, negative);
      Guide(settings.true_cfg_scale, negative, prediction);
    }
    scheduler.Step(context, step, prediction, latents);
    session.EndStep();
    CheckFinite(latents, "the latents", context);
    clock.EndStep(std::string(Name(session.report().steps.back().kind)));
  }
  order.Invert(context, latents, noise);
  return noise;
}

Image FluxPipeline::Decode(const Plan& plan, ConstTensorView latents, int threads, int image,
                           GenerationClock& clock) const {
  Context context(threads, plan.decoder_workspace);
  const FluxLatentShape& shape = plan.latents;
  Tensor unpacked({1, shape.height, shape.width, shape.channels}, DType::kF32);
  UnpackFluxLatents(shape, latents, vae_.config().scaling_factor, vae_.config().shift_factor,
                    unpacked);
  Tensor pixels({1, plan.settings.height, plan.settings.width, 3}, DType::kF32);
  clock.BeginStage(Stage::kDecode, image,
                   static_cast<int>(vae_.NumTiles(shape.height, shape.width)));
  vae_.Decode(context, unpacked, pixels, [&] { clock.EndStep(); });
  CheckFinite(pixels, "the picture", context);
  Image picture{plan.settings.width, plan.settings.height, {}};
  picture.rgb.resize(static_cast<size_t>(pixels.NumElements()));
  std::transform(pixels.data<float>(), pixels.data<float>() + pixels.NumElements(),
                 picture.rgb.begin(), ToByte);
  return picture;
}

// Non-finite values come from broken weights more often than from anything else: name the tensor.
void FluxPipeline::CheckFinite(ConstTensorView values, const char* what,
                               const Context& context) const {
  const float* begin = values.data<float>();
  if (std::all_of(begin, begin + values.NumElements(), [](float x) { return std::isfinite(x); })) {
    return;
  }
  for (const Weights* weights :
       {&text_.clip_weights(), &text_.t5_weights(), &transformer_weights_, &vae_weights_}) {
    weights->CheckFinite(context);
  }
  Fail(ErrorCode::kInvalidFile,
       "{}: {} became infinite or not a number, though all weights are finite",
       folder_.path().string(), what);
}

MemoryPlan FluxPipeline::PlanMemory(const GenerateOptions& options) const {
  return MakePlan(options).memory;
}

int64_t FluxPipeline::NumImageTokens(const GenerateOptions& options) const {
  return LatentShape(ResolveSettings(options, folder_.defaults(), family_)).tokens();
}

int64_t FluxPipeline::NumTextTokens(const GenerateOptions& options) const {
  return ResolveSettings(options, folder_.defaults(), family_).max_sequence_length;
}

std::string FluxPipeline::SparsityYaml(const GenerateOptions& options) const {
  const SparsityConfig config =
      ChooseSparsity(options.sparsity, info_.default_profile, options.overrides);
  return config.IsAnythingEnabled() ? WriteYaml(config) : "";
}

std::vector<std::string> FluxPipeline::Warnings(const GenerateOptions& options) const {
  const GenerationSettings settings = ResolveSettings(options, folder_.defaults(), family_);
  const SparsityConfig config =
      ChooseSparsity(options.sparsity, info_.default_profile, options.overrides);
  std::vector<std::string> warnings;
  if (config.IsAnythingEnabled()) warnings = ConfigWarnings(config, settings.steps);
  if (options.guidance_scale && !transformer_.config().guidance_embeds) {
    warnings.emplace_back(
        "guidance_scale has no effect: the model has no guidance embedding (true_cfg_scale has)");
  }
  if (!options.negative_prompt.empty() && !settings.use_true_cfg()) {
    warnings.emplace_back("negative_prompt has no effect while true_cfg_scale is not above 1");
  }
  if (text_.IsCut(options.prompt, settings.max_sequence_length)) {
    warnings.push_back(fmt::format("the prompt is longer than {} tokens; its end has no effect",
                                   settings.max_sequence_length));
  }
  return warnings;
}

std::map<std::string, std::string> FluxPipeline::PngText(const GenerateOptions& options,
                                                         int image) const {
  const GenerationSettings settings = ResolveSettings(options, folder_.defaults(), family_);
  nlohmann::ordered_json json;
  json["model"] = folder_.path().filename().string();
  json["prompt"] = options.prompt;
  json["negative_prompt"] = options.negative_prompt;
  json["width"] = settings.width;
  json["height"] = settings.height;
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

}  // namespace tamias
