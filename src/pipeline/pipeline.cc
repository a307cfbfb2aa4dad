// tamias::Pipeline: opens the folder and hands everything to the family it names.
#include "tamias/pipeline.h"

#include <new>

#include "base/check.h"
#include "base/machine.h"
#include "pipeline/pipeline_family.h"
#include "pipeline/saved_latents.h"

namespace tamias {
namespace {

struct Family {
  const char* class_name;  // in model_index.json
  std::unique_ptr<PipelineFamily> (*load)(const ModelFolder& folder);
};
constexpr Family kFamilies[] = {
    {"FluxPipeline", LoadFluxPipeline},   {"HunyuanVideoPipeline", LoadHunyuanVideoPipeline},
    {"WanPipeline", LoadWanPipeline},     {"WanImageToVideoPipeline", LoadWanPipeline},
    {"MochiPipeline", LoadMochiPipeline},
};

std::unique_ptr<PipelineFamily> LoadFamily(const std::filesystem::path& path,
                                           const LoadOptions& options) {
  const ModelFolder folder(path, options);
  std::string served;
  for (const Family& family : kFamilies) {
    if (folder.family() == family.class_name) return family.load(folder);
    served += (served.empty() ? "" : ", ") + std::string(family.class_name);
  }
  Fail(ErrorCode::kUnsupported,
       "{}/model_index.json: field '_class_name': '{}' is not served; served: {}", path.string(),
       folder.family(), served);
}

// Runs the body; an allocation of the standard library that failed becomes an Error, too.
template <typename Body>
auto WithErrors(const Body& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    Fail(ErrorCode::kOutOfMemory, "out of memory ({})", TightestMemoryLimit());
  }
}

}  // namespace

Pipeline::Pipeline(const std::filesystem::path& folder, const LoadOptions& options)
    : family_(WithErrors([&] { return LoadFamily(folder, options); })) {}
Pipeline::~Pipeline() = default;
Pipeline::Pipeline(Pipeline&&) noexcept = default;
Pipeline& Pipeline::operator=(Pipeline&&) noexcept = default;

GenerateResult Pipeline::Generate(const GenerateOptions& options,
                                  const ProgressCallback& progress) const {
  return WithErrors([&] { return family_->Generate(options, progress); });
}

GenerateResult Pipeline::Decode(const SavedLatents& latents, const GenerateOptions& options,
                                const ProgressCallback& progress) const {
  return WithErrors([&] { return family_->DecodeLatents(latents, options, progress); });
}

MemoryPlan Pipeline::PlanMemory(const GenerateOptions& options) const {
  return family_->PlanMemory(options);
}

int64_t Pipeline::NumImageTokens(const GenerateOptions& options) const {
  return family_->NumImageTokens(options);
}

int64_t Pipeline::NumTextTokens(const GenerateOptions& options) const {
  return family_->NumTextTokens(options);
}

int Pipeline::NumSteps(const GenerateOptions& options) const { return family_->NumSteps(options); }

std::string Pipeline::SparsityYaml(const GenerateOptions& options) const {
  return family_->SparsityYaml(options);
}

std::vector<std::string> Pipeline::Warnings(const GenerateOptions& options) const {
  return family_->Warnings(options);
}

std::map<std::string, std::string> Pipeline::PngText(const GenerateOptions& options,
                                                     int image) const {
  return family_->PngText(options, image);
}

std::map<std::string, std::string> Pipeline::PngText(const SavedLatents& latents, int image) const {
  return SavedPngText(latents, image);
}

std::map<std::string, std::string> Pipeline::LatentsText(const GenerateOptions& options,
                                                         int image) const {
  return family_->LatentsText(options, image);
}

const ModelInfo& Pipeline::info() const { return family_->info(); }
int Pipeline::size_multiple() const { return family_->size_multiple(); }

std::string Version() { return TAMIAS_VERSION; }

}  // namespace tamias
