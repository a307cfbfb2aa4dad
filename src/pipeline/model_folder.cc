#include "pipeline/model_folder.h"

#include <algorithm>
#include <array>
#include <utility>

namespace tamias {
namespace {

template <typename T>
std::optional<T> If(bool present, T value) {
  return present ? std::optional<T>(std::move(value)) : std::nullopt;
}

ModelDefaults LoadDefaults(const std::filesystem::path& path) {
  ModelDefaults defaults;
  if (!std::filesystem::exists(path)) return defaults;
  const JsonObject json = JsonObject::Load(path);
  constexpr std::array<std::string_view, 9> kKnown = {
      "profile",
      "width",
      "height",
      "num_frames",
      "fps",
      "steps",
      "max_sequence_length",
      "true_cfg_scale",
      "guidance_scale",
  };
  for (const std::string& key : json.Keys()) {
    if (std::ranges::find(kKnown, key) == kKnown.end()) json.FailField(key, "unknown");
  }
  const auto integer = [&](std::string_view key, int64_t max) {
    return If(json.Has(key), static_cast<int>(json.IntOr(key, 1, {.min = 1, .max = max})));
  };
  const auto number = [&](std::string_view key) {
    return If(json.Has(key), json.FloatOr(key, 0, {.min = 0, .max = 1000}));
  };
  defaults.profile = If(json.Has("profile"), json.StringOr("profile", ""));
  defaults.width = integer("width", 1 << 16);
  defaults.height = integer("height", 1 << 16);
  defaults.num_frames = integer("num_frames", 1 << 16);
  defaults.fps = number("fps");
  defaults.steps = integer("steps", 1000);
  defaults.max_sequence_length = integer("max_sequence_length", 1 << 16);
  defaults.true_cfg_scale = number("true_cfg_scale");
  defaults.guidance_scale = number("guidance_scale");
  return defaults;
}

}  // namespace

std::string ModelFolder::name() const {
  std::error_code error;
  // With "." behind it, every way to write the folder ends in a separator once it is normal.
  const auto whole = std::filesystem::absolute(path_ / ".", error).lexically_normal();
  return whole.parent_path().filename().string();
}

ModelFolder::ModelFolder(std::filesystem::path path) : path_(std::move(path)) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(path_, ignored)) {
    Fail(ErrorCode::kNotFound, "{}: no such folder", path_.string());
  }
  const std::filesystem::path index = path_ / "model_index.json";
  if (!std::filesystem::exists(index, ignored)) {
    Fail(ErrorCode::kNotFound, "{}: not a checkpoint folder: it holds no model_index.json",
         path_.string());
  }
  family_ = JsonObject::Load(index).String("_class_name");
  defaults_ = LoadDefaults(path_ / "tamias.json");
}

std::filesystem::path ModelFolder::Component(const std::string& name) const {
  const std::filesystem::path folder = path_ / name;
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored)) {
    Fail(ErrorCode::kNotFound, "{}: component '{}' is missing", path_.string(), name);
  }
  return folder;
}

JsonObject ModelFolder::Config(const std::string& component) const {
  const char* file = component == "scheduler" ? "scheduler_config.json" : "config.json";
  return JsonObject::Load(Component(component) / file);
}

}  // namespace tamias
