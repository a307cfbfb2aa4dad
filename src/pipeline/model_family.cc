// What the constructors of all families do: components described, defaults filled in, the scheduler
// read; and the table of families.
#include "pipeline/model_family.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/machine.h"
#include "tamias/devices.h"

namespace tamias {
namespace {

struct Family {
  const char* class_name;  // in model_index.json
  std::unique_ptr<ModelFamily> (*load)(const ModelFolder& folder);
};
constexpr Family kFamilies[] = {
    {"FluxPipeline", LoadFluxPipeline},   {"HunyuanVideoPipeline", LoadHunyuanVideoPipeline},
    {"WanPipeline", LoadWanPipeline},     {"WanImageToVideoPipeline", LoadWanPipeline},
    {"MochiPipeline", LoadMochiPipeline},
};

ComponentInfo Describe(const std::string& name, const JsonObject& config, const Weights& weights) {
  std::string class_name = config.StringOr("_class_name", "");
  if (class_name.empty()) {
    const std::vector<std::string> classes = config.StringArrayOr("architectures", {});
    class_name = classes.empty() ? "?" : classes.front();
  }
  return {name,
          class_name,
          static_cast<size_t>(weights.TotalParameters()),
          static_cast<size_t>(weights.TotalBytes()),
          std::string(Name(weights.MainDType())),
          weights.variant()};
}

}  // namespace

std::unique_ptr<ModelFamily> LoadModelFamily(const ModelFolder& folder) {
  std::string served;
  for (const Family& family : kFamilies) {
    if (folder.family() == family.class_name) return family.load(folder);
    served += (served.empty() ? "" : ", ") + std::string(family.class_name);
  }
  Fail(ErrorCode::kUnsupported,
       "{}/model_index.json: field '_class_name': '{}' is not served; served: {}",
       folder.path().string(), folder.family(), served);
}

ModelFamily::ModelFamily(const ModelFolder& folder)
    : folder_(folder), program_bytes_(ResidentBytes()) {
  info_.family = folder_.family();
}

Placement ModelFamily::PlacementFor(const GenerateOptions& options) const {
  const auto transformer = std::ranges::find_if(
      components_, [](const ModelComponent& one) { return one.RunsIn(ModelStage::kDenoise); });
  TAMIAS_CHECK(transformer != components_.end());
  Placement placement =
      PlacementOn(ParseDevices(options.device).front(), transformer->model->weights().MainDType(),
                  ParseActivationType(options.dtype));
  placement.weight_dtype = ParseWeightType(options.weight_dtype);
  return placement;
}

void ModelFamily::AddComponent(const std::string& name, const PlacedModel& model,
                               std::initializer_list<ModelStage> stages, int expert) {
  ModelComponent& component = components_.emplace_back(ModelComponent{name, &model, 0, expert});
  for (const ModelStage stage : stages) component.stages |= static_cast<uint8_t>(stage);
  info_.components.push_back(Describe(name, folder_.Config(name), model.weights()));
}

void ModelFamily::SetDefaults(const FamilyDefaults& family, const std::string& profile) {
  defaults_ = family;
  info_.makes_videos = family.makes_videos();
  info_.needs_image = family.needs_image;
  info_.size_multiple = family.size_multiple;
  info_.default_profile = folder_.defaults().profile.value_or(profile);
  info_.defaults = ResolveSettings({}, folder_.defaults(), family);
}

void ModelFamily::SetScheduler(SchedulerConventions conventions) {
  const JsonObject index = JsonObject::Load(folder_.path() / "model_index.json");
  scheduler_ = SchedulerFactory::Read(index, folder_.Config("scheduler"), std::move(conventions));
  info_.scheduler = scheduler_->class_name();
}

void ModelFamily::CheckTransformerField(const char* field, int64_t found, const char* where,
                                        int64_t expected, const char* transformer) const {
  if (found != expected) {
    Fail(ErrorCode::kInvalidFile, "{}: {}: field '{}' is {}, but {} gives {}",
         folder_.path().string(), transformer, field, found, where, expected);
  }
}

}  // namespace tamias
