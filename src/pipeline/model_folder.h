// A checkpoint folder in diffusers' layout: model_index.json names the family, each component has a
// subfolder. An optional tamias.json holds our own defaults for the model.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "io/json.h"

namespace tamias {

// Defaults of the options for one model; what is not set falls back to the family's.
struct ModelDefaults {
  std::optional<std::string> profile;
  std::optional<int> width;
  std::optional<int> height;
  std::optional<int> num_frames;
  std::optional<double> fps;
  std::optional<int> steps;
  std::optional<int> max_sequence_length;
  std::optional<double> true_cfg_scale;
  std::optional<double> guidance_scale;
};

class ModelFolder {
 public:
  // Throws kNotFound when the folder or its model_index.json is missing, kInvalidFile when broken.
  explicit ModelFolder(std::filesystem::path path);

  const std::filesystem::path& path() const { return path_; }
  // What the folder is called, however it was written: "demo" of "models/demo/" and of "." in it.
  std::string name() const;
  const std::string& family() const { return family_; }  // model_index.json's _class_name
  const ModelDefaults& defaults() const { return defaults_; }

  // The folder of a component; throws kNotFound naming it.
  std::filesystem::path Component(const std::string& name) const;
  // <component>/config.json (or the scheduler's scheduler_config.json).
  JsonObject Config(const std::string& component) const;

 private:
  std::filesystem::path path_;
  std::string family_;
  ModelDefaults defaults_;
};

}  // namespace tamias
