// tamias::Generation: the stages in their order, each reported to the clock, the result and the
// report. What a stage computes lies in its own room.
#include "tamias/generation.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "base/check.h"
#include "pipeline/decode_frames.h"
#include "pipeline/finite_values.h"
#include "pipeline/generation_clock.h"
#include "pipeline/generation_implementation.h"
#include "pipeline/generation_text.h"
#include "pipeline/out_of_memory.h"

namespace tamias {
namespace {

Latents ToLatents(const Tensor& tensor) {
  const float* values = tensor.host_data<float>();
  return {tensor.dim(1), tensor.dim(2), {values, values + tensor.NumElements()}};
}

ConstTensorView ViewOf(const Latents& latents) {
  return ConstTensorView(latents.values.data(), DType::kF32, {1, latents.tokens, latents.channels});
}

void CheckLatents(const char* option, const Latents& latents, const GenerationPlan& plan) {
  const int64_t tokens = plan.latents.tokens(), channels = plan.latents.token_channels();
  if (latents.tokens != tokens || latents.channels != channels ||
      static_cast<int64_t>(latents.values.size()) != tokens * channels) {
    Fail(ErrorCode::kInvalidArgument,
         "{}: {}: expected {} tokens of {} numbers, found {} of {} ({})", option,
         SizeText(plan.settings), tokens, channels, latents.tokens, latents.channels,
         latents.values.size());
  }
  if (!std::ranges::all_of(latents.values, [](float x) { return std::isfinite(x); })) {
    Fail(ErrorCode::kInvalidArgument, "{}: expected finite numbers, found others", option);
  }
}

void CheckInitialLatents(const GenerateOptions& options, const GenerationPlan& plan) {
  if (options.initial_latents.empty()) return;
  if (static_cast<int>(options.initial_latents.size()) != options.num_images) {
    Fail(ErrorCode::kInvalidArgument,
         "initial_latents: expected one for each of {} images, found {}", options.num_images,
         options.initial_latents.size());
  }
  for (const Latents& latents : options.initial_latents) {
    CheckLatents("initial_latents", latents, plan);
  }
}

}  // namespace

std::unique_ptr<Generation::Implementation> Generation::Implementation::Begin(
    std::shared_ptr<Pipeline::Parts> parts, const GenerateOptions& options,
    const ProgressCallback& progress) {
  const ModelFamily& family = *parts->family;
  if (family.info().needs_image && !options.image) {
    Fail(ErrorCode::kInvalidArgument,
         "image: this model makes films of a picture, and none is given");
  }
  GenerationPlan plan = parts->Plan(options);
  CheckInitialLatents(options, plan);
  return std::make_unique<Implementation>(std::move(parts), options, progress, std::move(plan),
                                          options.num_images);
}

Generation::Implementation::Implementation(std::shared_ptr<Pipeline::Parts> parts,
                                           const GenerateOptions& options,
                                           const ProgressCallback& progress, GenerationPlan plan,
                                           int num_images)
    : parts_(std::move(parts)),
      family_(*parts_->family),
      options_(options),
      plan_(std::move(plan)),
      entry_(parts_->Enter(plan_, options_)),
      num_images_(num_images),
      clock_(progress, num_images),
      report_(SettingsJson(family_, options_, plan_.settings, 0), plan_.devices, plan_.placement),
      num_steps_(
          family_.scheduler().Make(plan_.settings.steps, plan_.latents.tokens())->num_steps()),
      resources_(parts_->devices.Resources(plan_)) {
  result_.planned_memory_bytes = plan_.memory.peak_bytes;
  result_.planned_device_memory_bytes = plan_.memory.device_bytes;
  result_.planned_devices = plan_.memory.devices;
  result_.device_measures = plan_.memory.device_measures;
}

void Generation::Implementation::Run(const std::function<void()>& part) {
  CheckNotFailed();
  const auto let_go = [&] {
    picture_.reset();
    transformer_.reset();
    prompts_.clear();
    condition_ = {};
    entry_ = {};
  };
  try {
    part();
  } catch (...) {
    has_failed_ = true;
    let_go();
    throw;
  }
  if (IsDone()) let_go();
}

void Generation::Implementation::Encode() {
  if (!IsDone()) Run([&] { EncodeOnce(); });
}

void Generation::Implementation::EncodeOnce() {
  if (is_encoded_) return;
  clock_.BeginStage(Stage::kEncodePrompt, 0,
                    plan_.settings.num_invocations() + family_.NumImagePieces(plan_.latents));
  {
    const ModelDevices::Lease encoders = parts_->devices.Use(plan_, ModelStage::kEncode);
    EncodePrompts();
    EncodeImage();
  }
  is_encoded_ = true;
  result_.seconds_encode = clock_.Seconds();
}

void Generation::Implementation::EncodePrompts() {
  Context context(resources_.front(), plan_.encoder, plan_.threads, plan_.text_workspace);
  const auto encode = [&](const std::string& text) {
    const PromptEmbedding& prompt =
        prompts_.emplace_back(family_.EncodePrompt(context, text, plan_.settings));
    CheckFinite(prompt.sequence, "the text embedding", family_);
    if (!prompt.pooled.empty()) CheckFinite(prompt.pooled, "the pooled text embedding", family_);
    clock_.EndStep();
  };
  encode(options_.prompt);
  if (plan_.settings.use_true_cfg()) encode(options_.negative_prompt);
}

void Generation::Implementation::EncodeImage() {
  if (!options_.image) return;
  Context context(resources_.front(), plan_.encoder, plan_.threads, plan_.image_workspace);
  condition_ =
      family_.EncodeImage(context, *options_.image, plan_.latents, [this] { clock_.EndStep(); });
  if (!condition_.embedding.empty()) {
    CheckFinite(condition_.embedding, "the picture's embedding", family_);
  }
  CheckFinite(condition_.latents, "the picture's latents", family_);
}

void Generation::Implementation::UseTransformer() {
  transformer_.reset();  // first: both may be too large for the device
  transformer_.emplace(parts_->devices.Use(plan_, ModelStage::kDenoise, plan_.ExpertOf(step())));
}

void Generation::Implementation::BeginPicture() {
  UseTransformer();
  picture_.emplace(resources_, family_, plan_, prompts_, condition_, options_, image_);
  if (image_ == 0) result_.seconds_to_first_step = clock_.Seconds();
  clock_.BeginStage(Stage::kDenoise, image_, num_steps_);
}

bool Generation::Implementation::Step() {
  if (IsDone()) return false;
  if (picture_ && step() == num_steps_) return false;
  Run([&] {
    EncodeOnce();
    if (!picture_) BeginPicture();
    if (step() > 0 && step() == plan_.second_expert_step) UseTransformer();
    const StepKind kind = picture_->Step(options_.on_prediction);
    CheckFinite(picture_->ordered_latents(), "the latents", family_);
    clock_.EndStep(std::string(Name(kind)));
  });
  return true;
}

void Generation::Implementation::Decode() {
  CheckUnderWay("decode");
  Run([&] {
    result_.seconds_denoise += clock_.StageSeconds();
    report_.AddImage(picture_->report());
    const Tensor latents = picture_->latents();
    picture_.reset();
    transformer_.reset();
    result_.latents.push_back(ToLatents(latents));
    if (options_.on_latents) options_.on_latents(result_, image_);
    FinishPicture(latents);
  });
}

void Generation::Implementation::Decode(const Latents& latents) {
  Run([&] {
    result_.latents.push_back(latents);
    FinishPicture(ViewOf(latents));
  });
}

void Generation::Implementation::FinishPicture(ConstTensorView latents) {
  if (options_.decode) {
    clock_.BeginStage(Stage::kDecode, image_, family_.NumDecodePieces(plan_.latents));
    const ModelDevices::Lease decoder = parts_->devices.Use(plan_, ModelStage::kDecode);
    std::vector<Image> frames =
        DecodeFrames(resources_.front(), family_, plan_, latents, [this] { clock_.EndStep(); });
    if (family_.info().makes_videos) {
      result_.videos.push_back({plan_.settings.fps, std::move(frames)});
    } else {
      result_.images.push_back(std::move(frames.front()));
    }
    result_.seconds_decode += clock_.StageSeconds();
  }
  result_.seconds_total = clock_.Seconds();
  report_.Finish(result_);
  if (options_.on_result) options_.on_result(result_, image_);
  ++image_;
}

void Generation::Implementation::CheckNotFailed() const {
  if (!has_failed_) return;
  Fail(ErrorCode::kInvalidArgument,
       "generation: an earlier call has failed: only the result may be asked for");
}

void Generation::Implementation::CheckUnderWay(const char* what) const {
  if (picture_) return;
  CheckNotFailed();
  Fail(ErrorCode::kInvalidArgument, "generation: {}: no picture is under way (Step begins one)",
       what);
}

Latents Generation::Implementation::latents() {
  CheckUnderWay("latents");
  return ToLatents(picture_->latents());
}

void Generation::Implementation::SetLatents(const Latents& latents) {
  CheckUnderWay("latents");
  CheckLatents("latents", latents, plan_);
  picture_->SetLatents(ViewOf(latents));
}

Generation::Generation(std::unique_ptr<Implementation> implementation)
    : implementation_(std::move(implementation)) {}
Generation::Generation(Generation&&) noexcept = default;
Generation& Generation::operator=(Generation&&) noexcept = default;
Generation::~Generation() = default;

void Generation::Encode() {
  WithOutOfMemory([&] { implementation_->Encode(); });
}
bool Generation::Step() {
  return WithOutOfMemory([&] { return implementation_->Step(); });
}
void Generation::Decode() {
  WithOutOfMemory([&] { implementation_->Decode(); });
}
bool Generation::IsDone() const { return implementation_->IsDone(); }
int Generation::image() const { return implementation_->image(); }
int Generation::step() const { return implementation_->step(); }
int Generation::num_steps() const { return implementation_->num_steps(); }
Latents Generation::latents() const {
  return WithOutOfMemory([&] { return implementation_->latents(); });
}
void Generation::SetLatents(const Latents& latents) { implementation_->SetLatents(latents); }
const GenerateResult& Generation::result() const { return implementation_->result(); }
GenerateResult Generation::TakeResult() && { return std::move(implementation_->result()); }

}  // namespace tamias
