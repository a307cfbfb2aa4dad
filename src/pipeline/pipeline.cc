// tamias::Pipeline: opens the folder and hands each question to the room that answers it.
#include "tamias/pipeline.h"

#include <utility>

#include "base/check.h"
#include "pipeline/generation_implementation.h"
#include "pipeline/generation_text.h"
#include "pipeline/generation_warnings.h"
#include "pipeline/out_of_memory.h"
#include "pipeline/pipeline_parts.h"
#include "pipeline/saved_latents.h"
#include "pipeline/sparsity_choice.h"
#include "tamias/generation.h"

namespace tamias {
namespace {

SparsityConfig SparsityOf(const ModelFamily& family, const GenerateOptions& options) {
  return ChooseSparsity(options.sparsity, family.info().default_profile, options.overrides);
}

}  // namespace

const char* Name(Stage stage) {
  switch (stage) {
    case Stage::kEncodePrompt:
      return "encode";
    case Stage::kDenoise:
      return "denoise";
    case Stage::kDecode:
      return "decode";
  }
  return "";
}

Pipeline::Pipeline(const std::filesystem::path& folder, const LoadOptions& options)
    : parts_(std::make_shared<Parts>()) {
  parts_->family = WithOutOfMemory([&] { return LoadModelFamily(ModelFolder(folder, options)); });
}
Pipeline::~Pipeline() = default;
Pipeline::Pipeline(Pipeline&&) noexcept = default;
Pipeline& Pipeline::operator=(Pipeline&&) noexcept = default;

Generation Pipeline::Start(const GenerateOptions& options, const ProgressCallback& progress) const {
  return WithOutOfMemory(
      [&] { return Generation(Generation::Implementation::Begin(parts_, options, progress)); });
}

GenerateResult Pipeline::Generate(const GenerateOptions& options,
                                  const ProgressCallback& progress) const {
  Generation generation = Start(options, progress);
  while (!generation.IsDone()) {
    while (generation.Step()) {
    }
    generation.Decode();
  }
  return std::move(generation).TakeResult();
}

GenerateResult Pipeline::Decode(const SavedLatents& latents, const GenerateOptions& options,
                                const ProgressCallback& progress) const {
  return WithOutOfMemory([&] {
    const GenerateOptions complete = WithSavedSize(latents, options, info());
    GenerationPlan plan = parts_->PlanOfDecoding(complete);
    CheckSavedLatents(latents, plan.latents, SizeText(plan.settings));
    Generation::Implementation generation(parts_, complete, progress, std::move(plan),
                                          static_cast<int>(latents.latents.size()));
    for (const Latents& one : latents.latents) generation.Decode(one);
    return std::move(generation.result());
  });
}

GenerationSettings Pipeline::Settings(const GenerateOptions& options) const {
  return ResolveSettings(options, parts_->family->folder().defaults(), parts_->family->defaults());
}

MemoryPlan Pipeline::PlanMemory(const GenerateOptions& options) const {
  return WithOutOfMemory([&] { return parts_->Plan(options).memory; });
}

int64_t Pipeline::NumImageTokens(const GenerateOptions& options) const {
  return parts_->family->LatentsOf(Settings(options)).tokens();
}

int64_t Pipeline::NumTextTokens(const GenerateOptions& options) const {
  return Settings(options).max_sequence_length;
}

int Pipeline::NumSteps(const GenerateOptions& options) const {
  return parts_->family->scheduler()
      .Make(Settings(options).steps, NumImageTokens(options))
      ->num_steps();
}

int Pipeline::SecondExpertStep(const GenerateOptions& options) const {
  return tamias::SecondExpertStep(*parts_->family, Settings(options), NumImageTokens(options));
}

std::string Pipeline::SparsityYaml(const GenerateOptions& options) const {
  const SparsityConfig config = SparsityOf(*parts_->family, options);
  return config.IsAnythingEnabled() ? WriteYaml(config) : "";
}

std::vector<std::string> Pipeline::Warnings(const GenerateOptions& options) const {
  return WarningsOf(*parts_->family, options, Settings(options),
                    SparsityOf(*parts_->family, options), NumSteps(options),
                    SecondExpertStep(options));
}

std::map<std::string, std::string> Pipeline::PngText(const GenerateOptions& options,
                                                     int image) const {
  return TextOfImage(*parts_->family, options, Settings(options), image);
}

std::map<std::string, std::string> Pipeline::PngText(const SavedLatents& latents, int image) const {
  return SavedPngText(latents, image);
}

std::map<std::string, std::string> Pipeline::LatentsText(const GenerateOptions& options,
                                                         int image) const {
  return TextOfLatents(*parts_->family, options, Settings(options), image);
}

size_t Pipeline::pinned_bytes() const { return parts_->devices.PinnedBytes(); }

const ModelInfo& Pipeline::info() const { return parts_->family->info(); }

std::string Version() { return TAMIAS_VERSION; }

}  // namespace tamias
