// tamias::Pipeline: opens the folder and hands everything to the family it names.
#include "tamias/pipeline.h"

#include "base/check.h"
#include "io/safetensors.h"
#include "pipeline/pipeline_family.h"

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

}  // namespace

Pipeline::Pipeline(const std::filesystem::path& folder, const LoadOptions& options)
    : family_(LoadFamily(folder, options)) {}
Pipeline::~Pipeline() = default;
Pipeline::Pipeline(Pipeline&&) noexcept = default;
Pipeline& Pipeline::operator=(Pipeline&&) noexcept = default;

GenerateResult Pipeline::Generate(const GenerateOptions& options,
                                  const ProgressCallback& progress) const {
  return family_->Generate(options, progress);
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

const ModelInfo& Pipeline::info() const { return family_->info(); }
int Pipeline::size_multiple() const { return family_->size_multiple(); }

void WriteLatents(const std::filesystem::path& path, const std::vector<Latents>& latents) {
  if (latents.empty()) Fail(ErrorCode::kInvalidArgument, "{}: no latents to write", path.string());
  const int64_t count = latents.front().tokens * latents.front().channels;
  Tensor all(
      {static_cast<int64_t>(latents.size()), latents.front().tokens, latents.front().channels},
      DType::kF32);
  float* next = all.data<float>();
  for (const Latents& one : latents) {
    if (static_cast<int64_t>(one.values.size()) != count) {
      Fail(ErrorCode::kInvalidArgument, "{}: the latents differ in size", path.string());
    }
    next = std::copy(one.values.begin(), one.values.end(), next);
  }
  const NamedTensor tensor{"latents", all.view()};
  WriteSafetensors(path, {&tensor, 1});
}

std::string Version() { return TAMIAS_VERSION; }

}  // namespace tamias
