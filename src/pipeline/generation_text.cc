// One JSON object with every setting as it was in force, and what readers of metadata expect
// beside.
#include "pipeline/generation_text.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace tamias {

namespace {

nlohmann::ordered_json LorasJson(const ModelFolder& folder) {
  nlohmann::ordered_json loras = nlohmann::ordered_json::array();
  for (const Lora& lora : folder.loras()) {
    loras.push_back({{"file", lora.file.filename().string()}, {"scale", lora.scale}});
    if (lora.transformer > 0) loras.back()["transformer"] = lora.transformer;
  }
  return loras;
}

}  // namespace

std::string SettingsJson(const ModelFamily& family, const GenerateOptions& options,
                         const GenerationSettings& settings, int image) {
  const ModelInfo& info = family.info();
  const Placement placement = family.PlacementFor(options);
  nlohmann::ordered_json json;
  json["model"] = family.folder().name();
  json["prompt"] = options.prompt;
  json["negative_prompt"] = options.negative_prompt;
  json["width"] = settings.width;
  json["height"] = settings.height;
  if (info.makes_videos) {
    json["num_frames"] = settings.num_frames;
    json["fps"] = settings.fps;
  }
  if (options.image) {
    json["picture"] = fmt::format("{}x{}", options.image->width, options.image->height);
  }
  json["steps"] = settings.steps;
  json["true_cfg_scale"] = settings.true_cfg_scale;
  if (settings.true_cfg_scale_2) json["true_cfg_scale_2"] = *settings.true_cfg_scale_2;
  json["guidance_scale"] = settings.guidance_scale;
  json["max_sequence_length"] = settings.max_sequence_length;
  json["seed"] = options.seed;
  json["num_images"] = options.num_images;
  json["image"] = image;
  json["sparsity"] = options.sparsity == "auto" ? info.default_profile : options.sparsity;
  json["set"] = options.overrides;
  if (!family.folder().loras().empty()) json["loras"] = LorasJson(family.folder());
  json["dtype"] = Name(placement.activation_dtype);
  json["weight_dtype"] = Name(placement.weight_dtype.value_or(placement.activation_dtype));
  json["version"] = Version();
  // Names of files may be any bytes.
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::map<std::string, std::string> TextOfImage(const ModelFamily& family,
                                               const GenerateOptions& options,
                                               const GenerationSettings& settings, int image) {
  return {{"Software", "Tamias " + Version()},
          {"Description", options.prompt},
          {"tamias", SettingsJson(family, options, settings, image)}};
}

std::map<std::string, std::string> TextOfLatents(const ModelFamily& family,
                                                 const GenerateOptions& options,
                                                 const GenerationSettings& settings, int image) {
  std::map<std::string, std::string> text = {
      {"family", family.info().family},
      {"width", std::to_string(settings.width)},
      {"height", std::to_string(settings.height)},
      {"num_frames", std::to_string(settings.num_frames)},
      {"tamias", SettingsJson(family, options, settings, image)}};
  if (family.info().makes_videos) text["fps"] = fmt::format("{}", settings.fps);
  return text;
}

}  // namespace tamias
