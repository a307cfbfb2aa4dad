// Reads model_index.json (`_class_name` is the family) and tamias.json, whose unknown fields are
// refused; finds a component's folder and its config.json or scheduler_config.json.
#include "pipeline/model_folder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/check.h"
#include "io/model_file.h"
#include "io/one_line.h"
#include "io/system_error.h"
#include "io/weight_files.h"
#include "models/lora/apply_loras.h"

namespace tamias {
namespace {

template <typename T>
std::optional<T> If(bool present, T value) {
  return present ? std::optional<T>(std::move(value)) : std::nullopt;
}

ModelDefaults LoadDefaults(const std::filesystem::path& path) {
  ModelDefaults defaults;
  if (!HasEntry(path)) return defaults;
  const JsonObject json = JsonObject::Load(path);
  constexpr std::array<std::string_view, 10> kKnown = {
      "profile",
      "width",
      "height",
      "num_frames",
      "fps",
      "steps",
      "max_sequence_length",
      "true_cfg_scale",
      "true_cfg_scale_2",
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
  defaults.true_cfg_scale_2 = number("true_cfg_scale_2");
  defaults.guidance_scale = number("guidance_scale");
  return defaults;
}

// A file where a folder is wanted.
[[noreturn]] void FailFile(const std::filesystem::path& path) {
  const bool is_index = path.filename() == "model_index.json";
  Fail(ErrorCode::kNotFound, "{}: expected a folder in diffusers' layout, found a file{}",
       path.string(),
       is_index ? ": give the folder that holds it"
                : ": single-file checkpoints are not read; diffusers converts them "
                  "(from_single_file, then save_pretrained)");
}

// Says what the folder is when it is part of a model, or a cache of downloads around one.
[[noreturn]] void FailNoIndex(const std::filesystem::path& path) {
  std::string hint;
  if (HasEntry(path / "config.json")) {
    hint = "; it looks like one component: give the folder above it";
  } else if (HasEntry(path / "snapshots")) {
    hint = "; it looks like a cache of downloads: give a folder below snapshots/";
  }
  Fail(ErrorCode::kNotFound, "{}: not a checkpoint folder: it holds no model_index.json{}",
       path.string(), hint);
}

// The library that model_index.json names for a component, "name": ["library", "class"]; else the
// usual one.
WeightLibrary LibraryOf(const std::filesystem::path& model, const std::string& component) {
  const JsonObject index = JsonObject::Load(model / "model_index.json");
  const auto it = index.raw().find(component);
  if (it != index.raw().end() && it->is_array() && !it->empty()) {
    if (it->front() == "diffusers") return WeightLibrary::kDiffusers;
    if (it->front() == "transformers") return WeightLibrary::kTransformers;
  }
  const bool is_diffusers = component.starts_with("transformer") || component == "vae";
  return is_diffusers ? WeightLibrary::kDiffusers : WeightLibrary::kTransformers;
}

std::string TransformerName(int index) {
  return index == 0 ? "transformer" : fmt::format("transformer_{}", index + 1);
}

}  // namespace

std::string ModelFolder::name() const {
  std::error_code error;
  // With "." behind it, every way to write the folder ends in a separator once it is normal.
  const auto whole = std::filesystem::absolute(path_ / ".", error).lexically_normal();
  return whole.parent_path().filename().string();
}

ModelFolder::ModelFolder(std::filesystem::path path, const LoadOptions& options)
    : path_(std::move(path)), variant_(options.variant), loras_(options.loras) {
  std::error_code ignored;
  if (std::filesystem::is_regular_file(path_, ignored)) FailFile(path_);
  RequireFolder(path_);
  const std::filesystem::path index = path_ / "model_index.json";
  if (!HasEntry(index)) FailNoIndex(path_);
  family_ = JsonObject::Load(index).String("_class_name");
  defaults_ = LoadDefaults(path_ / "tamias.json");
  if (!variant_.empty()) CheckVariant();
  OpenLoras();
}

// As diffusers: a component without the variant has its plain weights read, but one has it.
void ModelFolder::CheckVariant() const {
  std::set<std::string> found;
  std::error_code error;
  for (const auto& item : std::filesystem::directory_iterator(path_, error)) {
    std::error_code ignored;
    if (!std::filesystem::is_directory(item.path(), ignored)) continue;
    for (const std::string& variant : WeightVariants(item.path())) found.insert(variant);
  }
  if (error) FailSystem(path_, "open", error.value(), /*reading=*/true);
  if (found.contains(variant_)) return;
  found.erase("");
  Fail(ErrorCode::kNotFound, "variant: no component of {} has weights of the variant '{}'; {}",
       path_.string(), OneLine(variant_),
       found.empty()
           ? "there are plain ones only"
           : fmt::format("found: {}", OneLine(fmt::format("{}", fmt::join(found, ", ")))));
}

void ModelFolder::OpenLoras() {
  for (const Lora& lora : loras_) {
    if (lora.transformer < 0 || lora.transformer > 1) {
      Fail(ErrorCode::kInvalidArgument, "lora: transformer of {}: expected 0 or 1, found {}",
           lora.file.string(), lora.transformer);
    }
    const char* option = lora.transformer == 0 ? "lora" : "lora_2";
    if (!std::isfinite(lora.scale)) {
      Fail(ErrorCode::kInvalidArgument, "{}: scale of {}: expected a finite number, found {}",
           option, lora.file.string(), lora.scale);
    }
    const std::string transformer = TransformerName(lora.transformer);
    if (!HasEntry(path_ / transformer)) {
      Fail(ErrorCode::kInvalidArgument, "{}: {}: the model has no {}", option, lora.file.string(),
           transformer);
    }
    auto file = std::make_shared<const LoraFile>(lora.file);
    for (const LoraLayer& layer : file->layers()) {
      if (HasEntry(path_ / layer.component)) continue;
      file->FailLayer(
          layer, fmt::format("the model has no {}: the LoRA is of another model", layer.component));
    }
    lora_files_.push_back(std::move(file));
  }
}

std::filesystem::path ModelFolder::Component(const std::string& name) const {
  std::filesystem::path folder = path_ / name;
  if (!HasEntry(folder)) {
    Fail(ErrorCode::kNotFound, "{}: component '{}' is missing", path_.string(), name);
  }
  RequireFolder(folder);
  return folder;
}

JsonObject ModelFolder::Config(const std::string& component) const {
  const char* file = component == "scheduler" ? "scheduler_config.json" : "config.json";
  JsonObject config = JsonObject::Load(Component(component) / file);
  if (config.Has("quantization_config")) {
    const nlohmann::json& value = config.raw().at("quantization_config");
    const bool is_named =
        value.is_object() && value.contains("quant_method") && value.at("quant_method").is_string();
    Fail(
        ErrorCode::kUnsupported,
        "{}: field 'quantization_config': quantised weights{} are not supported; take the model "
        "in bf16, fp16 or fp32",
        config.source(),
        is_named ? fmt::format(" ({})", OneLine(value.at("quant_method").get<std::string>())) : "");
  }
  return config;
}

Weights ModelFolder::OpenWeights(const std::string& component) const {
  const Weights weights =
      Weights::Open(Component(component), {LibraryOf(path_, component), variant_});
  const bool is_transformer = component.starts_with("transformer");
  std::vector<ScaledLora> loras;
  for (size_t i = 0; i < loras_.size(); ++i) {
    const bool is_meant = is_transformer ? component == TransformerName(loras_[i].transformer)
                                         : loras_[i].transformer == 0;
    if (!is_meant) continue;
    loras.push_back({lora_files_[i], loras_[i].scale});
  }
  if (loras.empty()) return weights;
  return ApplyLoras(weights, is_transformer ? "transformer" : component, loras);
}

}  // namespace tamias
