// Loads the folders, and finds out which profiles fit: those that give rise to no warning.
#include "model_catalog.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <malloc.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <regex>
#include <set>
#include <string_view>

#include "api_error.h"
#include "tamias/devices.h"
#include "tamias/sparsity/config.h"
#include "tamias/sparsity/schedule.h"
#include "tamias/text.h"

namespace tamias::serve {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kDefaultsPerLimit = 4;
// Shipped profiles that were made for one family or model: nobody else is offered them.
constexpr std::array<std::string_view, 7> kOfOneModel = {
    "demo", "demo-video", "flux-1-dev", "mochi", "wan-2.1", "wan-2.2", "hunyuan-video"};

// Reads "4.93x at 30.0 dB" from the comment that a profile's file begins with, as tune writes it,
// where the comment names this model.
void ReadMeasured(const std::filesystem::path& path, const std::string& id,
                  ServedProfile& profile) {
  static const std::regex kMeasured(R"(\b(\d+\.\d+)x at (\d+\.\d+) dB)");
  std::ifstream file(path);
  std::string comment, line;
  while (std::getline(file, line) && line.starts_with("#")) comment += line.substr(1);
  std::smatch found;
  if (comment.find(id) == std::string::npos || !std::regex_search(comment, found, kMeasured))
    return;
  profile.measured_speedup = NumberFrom<double>("speed-up", found[1].str());
  profile.measured_psnr = NumberFrom<double>("PSNR", found[2].str());
}

ServedProfile CountSteps(const std::string& name, const SparsityConfig& config, int num_steps,
                         int second_expert_step) {
  ServedProfile profile{.name = name};
  const StepSchedule schedule(config, second_expert_step);
  for (int step = 0; step < num_steps; ++step) {
    switch (schedule.At(step).kind) {
      case StepKind::kFull:
        ++profile.full;
        break;
      case StepKind::kSparse:
        ++profile.sparse;
        break;
      case StepKind::kSkip:
        ++profile.skip;
        break;
    }
  }
  return profile;
}

}  // namespace

std::string MachineChoice::DeviceFor(const GenerationSettings& settings) const {
  const Devices devices = ParseDevices(device);
  return settings.num_invocations() > 1 ? device : Name(devices.front());
}

ServedModel::ServedModel(const std::filesystem::path& folder, const std::string& id,
                         const Limits& limits, const MachineChoice& machine)
    : max_pixels_(limits.max_pixels) {
  const Pipeline pipeline(folder);
  info_ = pipeline.info();
  GenerateOptions options;
  options.device = machine.device;
  options.true_cfg_scale = 2;  // with guidance, which is what all devices are for
  options.dtype = machine.dtype;
  options.weight_dtype = machine.weight_dtype;
  // Small: weights do not follow from the size, and kernels are compiled for each.
  options.width = options.height = 4 * info_.size_multiple;
  if (info_.makes_videos) options.num_frames = 1;
  // Also refuses a device that is not there and one that the model does not run on.
  const MemoryPlan plan = pipeline.PlanMemory(options);
  source_ = {id, folder, plan.weight_bytes};
  for (const DeviceMemory& gpu : plan.devices) idle_gpu_bytes_[gpu.device] = gpu.free_bytes;
  const GenerationSettings& defaults = info_.defaults;
  if (max_pixels_ == 0) {
    max_pixels_ =
        kDefaultsPerLimit * defaults.width * defaults.height * std::max(defaults.num_frames, 1);
  }
  AddProfile(pipeline, "off");
  for (const std::string& name : ListProfiles()) AddProfile(pipeline, name);
  std::ranges::stable_sort(profiles_, std::ranges::greater{}, [](const ServedProfile& profile) {
    return 2 * profile.full + profile.sparse;
  });
}

void ServedModel::AddProfile(const Pipeline& pipeline, const std::string& name) {
  GenerateOptions options;
  options.sparsity = name;
  try {
    const int num_steps = pipeline.NumSteps(options);
    if (name == "off") {
      profiles_.push_back({.name = name, .full = num_steps});
      return;
    }
    const bool is_own = name == info_.default_profile;
    if (!is_own && std::ranges::find(kOfOneModel, name) != kOfOneModel.end()) return;
    if (!is_own && !pipeline.Warnings(options).empty()) return;
    profiles_.push_back(CountSteps(name, ParseSparsityConfig(pipeline.SparsityYaml(options), name),
                                   num_steps, pipeline.SecondExpertStep(options)));
    ReadMeasured(FindProfile(name), id(), profiles_.back());
  } catch (const Error&) {
    // A file of the user's that is no profile, or one of another model: not offered.
  }
}

std::string ServedModel::ProfileNamed(const std::string& name) const {
  const std::string& wanted = name == "auto" ? info_.default_profile : name;
  std::vector<std::string> names = {"auto"};
  for (const ServedProfile& profile : profiles_) {
    if (profile.name == wanted) return wanted;
    names.push_back(profile.name);
  }
  throw InvalidRequest("profile", fmt::format("profile: expected one of {}, found '{}'",
                                              fmt::join(names, ", "), name));
}

ModelCatalog::ModelCatalog(const std::vector<std::string>& folders, const Limits& limits,
                           const MachineChoice& machine, size_t max_bytes)
    : limits_(limits), machine_(machine), loaded_(max_bytes) {
  if (ParseDevices(machine.device).size() > 2) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("device: expected two GPUs at most, which make the two calls of a step "
                            "with guidance at once, found '{}'",
                            machine.device));
  }
  std::set<std::string> ids;
  for (const std::string& folder : folders) {
    const std::filesystem::path path = std::filesystem::absolute(folder).lexically_normal();
    const std::string id =
        (path.has_filename() ? path.filename() : path.parent_path().filename()).string();
    if (!ids.insert(id).second) {
      throw Error(
          ErrorCode::kInvalidArgument,
          fmt::format("model: two folders are named '{}': a model goes by its folder's name", id));
    }
    const size_t bytes = models_.emplace_back(path, id, limits, machine).source().bytes;
    if (bytes > max_bytes) {
      throw Error(ErrorCode::kOutOfMemory,
                  fmt::format("model: {}: its weights are {}, and all models have {} "
                              "(--max-model-memory)",
                              folder, BytesText(bytes), BytesText(max_bytes)));
    }
  }
  malloc_trim(0);  // what looking at them took
}

const ServedModel& ModelCatalog::Find(const std::string& id, bool is_video) const {
  const char* kind = is_video ? "films" : "pictures";
  for (const ServedModel& model : models_) {
    if (id.empty() ? model.makes_videos() != is_video : model.id() != id) continue;
    if (model.makes_videos() == is_video) return model;
    throw InvalidRequest("model",
                         fmt::format("model: '{}' does not make {}: POST {}", id, kind,
                                     is_video ? "/v1/images/generations" : "/v1/videos"),
                         "model_kind");
  }
  if (id.empty()) {
    throw InvalidRequest("model", fmt::format("model: no model of this server makes {}", kind),
                         "model_not_found");
  }
  ApiError error = NotFound(fmt::format("model: '{}' is not served", id), "model_not_found");
  error.param = "model";
  throw error;
}

const ServedModel* ModelCatalog::Served(const std::string& id) const {
  const auto found = std::ranges::find(models_, id, &ServedModel::id);
  return found == models_.end() ? nullptr : &*found;
}

Json ModelCatalog::List() const {
  Json data = Json::array();
  for (const ServedModel& model : models_) {
    const ModelInfo& info = model.info();
    const GenerationSettings& defaults = info.defaults;
    Json settings = {{"width", defaults.width},
                     {"height", defaults.height},
                     {"steps", defaults.steps},
                     {"true_cfg_scale", defaults.true_cfg_scale},
                     {"max_sequence_length", defaults.max_sequence_length}};
    if (defaults.true_cfg_scale_2) settings["true_cfg_scale_2"] = *defaults.true_cfg_scale_2;
    if (info.makes_videos) {
      settings["num_frames"] = defaults.num_frames;
      settings["fps"] = defaults.fps;
    }
    Json profiles = Json::array();
    for (const ServedProfile& profile : model.profiles()) {
      Json& json = profiles.emplace_back(Json{{"name", profile.name},
                                              {"full", profile.full},
                                              {"sparse", profile.sparse},
                                              {"skip", profile.skip}});
      if (profile.measured_speedup > 0) {
        json["measured"] = {{"speedup", profile.measured_speedup}, {"psnr", profile.measured_psnr}};
      }
    }
    data.push_back({{"id", model.id()},
                    {"object", "model"},
                    {"created", 0},
                    {"owned_by", "tamias"},
                    {"kind", info.makes_videos ? "video" : "image"},
                    {"family", info.family},
                    {"needs_image", info.needs_image},
                    {"device", machine_.device},
                    {"dtype", machine_.dtype},
                    {"weight_dtype", machine_.weight_dtype},
                    {"bytes", model.source().bytes},
                    {"loaded", loaded_.IsLoaded(model.id())},
                    {"defaults", settings},
                    {"size_multiple", info.size_multiple},
                    {"max_pixels", model.max_pixels()},
                    {"max_steps", limits_.max_steps},
                    {"max_n", limits_.max_n},
                    {"default_profile", info.default_profile},
                    {"profiles", profiles}});
  }
  return {{"object", "list"}, {"data", data}};
}

}  // namespace tamias::serve
