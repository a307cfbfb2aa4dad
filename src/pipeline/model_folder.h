// A checkpoint folder in diffusers' layout: model_index.json names the family and the library of
// each component, which has a subfolder. An optional tamias.json holds our own defaults for the
// model.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/json.h"
#include "io/lora_file.h"
#include "tamias/pipeline.h"
#include "tamias/weights.h"

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
  std::optional<double> true_cfg_scale_2;
  std::optional<double> guidance_scale;
};

class ModelFolder {
 public:
  // Throws kNotFound when the folder or its model_index.json is missing, or no component has the
  // variant of weights that the options name; kInvalidFile when broken; as LoraFile.
  explicit ModelFolder(std::filesystem::path path, const LoadOptions& options = {});

  const std::filesystem::path& path() const { return path_; }
  // What the folder is called, however it was written: "demo" of "models/demo/" and of "." in it.
  std::string name() const;
  const std::string& family() const { return family_; }  // model_index.json's _class_name
  const ModelDefaults& defaults() const { return defaults_; }

  // The folder of a component; throws kNotFound naming it.
  std::filesystem::path Component(const std::string& name) const;
  // <component>/config.json (or the scheduler's scheduler_config.json). Throws kUnsupported for a
  // component whose weights are quantised.
  JsonObject Config(const std::string& component) const;
  // The component's weights, chosen as its library chooses among the files (io/weight_files.h),
  // with the LoRAs merged into them.
  Weights OpenWeights(const std::string& component) const;
  const std::string& variant() const { return variant_; }  // that was asked for; empty: none
  const std::vector<Lora>& loras() const { return loras_; }

 private:
  void CheckVariant() const;
  void OpenLoras();

  std::filesystem::path path_;
  std::string variant_;
  std::vector<Lora> loras_;
  std::vector<std::shared_ptr<const LoraFile>> lora_files_;  // of loras_, in their order
  std::string family_;
  ModelDefaults defaults_;
};

}  // namespace tamias
