// The models that are served: named by their folders, each with the profiles that it can run and
// what they compute. All are looked at once at the start; which of them are in memory is another
// matter (loaded_models.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <list>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "loaded_models.h"
#include "tamias/pipeline.h"

namespace tamias::serve {

// What a request may ask for at most.
struct Limits {
  int64_t max_pixels = 0;  // width x height x frames; 0: four times the model's default
  int max_steps = 200;
  int max_n = 8;
  size_t max_prompt_bytes = 8192;
  size_t max_body_bytes = size_t{1} << 20;  // without a picture
  size_t max_picture_bytes = size_t{16} << 20;
  int64_t max_picture_pixels = int64_t{1} << 25;
};

// The steps of a generation with the model's default number of them, by kind.
struct ServedProfile {
  std::string name;
  int full = 0;
  int sparse = 0;
  int skip = 0;
  // What `tamias tune` measured on this model and wrote into the profile's file: over dense, and dB
  // of the worst result. 0: it did not.
  double measured_speedup = 0;
  double measured_psnr = 0;
};

// What all jobs run with, as in GenerateOptions.
struct MachineChoice {
  std::string device = "cpu";
  std::string dtype = "auto";
  std::string weight_dtype = "auto";

  // The devices of a job with these settings: of two the first alone without guidance, since two
  // that shared a call would have to fit every model and size.
  std::string DeviceFor(const GenerationSettings& settings) const;
};

class ServedModel {
 public:
  // Loads it for as long as that takes. `folder` is what messages of the library name, so it should
  // be absolute.
  ServedModel(const std::filesystem::path& folder, const std::string& id, const Limits& limits,
              const MachineChoice& machine);

  const std::string& id() const { return source_.id; }
  const ModelSource& source() const { return source_; }
  const ModelInfo& info() const { return info_; }
  bool makes_videos() const { return info_.makes_videos; }
  // Of each GPU by its name, what was free of its memory when the server looked at the model: no
  // job ran then.
  const std::map<std::string, size_t>& idle_gpu_bytes() const { return idle_gpu_bytes_; }
  int64_t max_pixels() const { return max_pixels_; }
  // From most to least work, "off" first.
  const std::vector<ServedProfile>& profiles() const { return profiles_; }
  // "auto" becomes the model's own. Throws ApiError for a profile that is not served.
  std::string ProfileNamed(const std::string& name) const;

 private:
  void AddProfile(const Pipeline& pipeline, const std::string& name);

  ModelSource source_;
  ModelInfo info_;
  int64_t max_pixels_;
  std::map<std::string, size_t> idle_gpu_bytes_;
  std::vector<ServedProfile> profiles_;
};

class ModelCatalog {
 public:
  // max_bytes: of the weights that may be in memory at a time. Throws as Pipeline,
  // kInvalidArgument where two folders have one name, and kOutOfMemory for a model that is larger
  // than max_bytes.
  ModelCatalog(const std::vector<std::string>& folders, const Limits& limits,
               const MachineChoice& machine, size_t max_bytes);

  const std::list<ServedModel>& models() const { return models_; }
  const MachineChoice& machine() const { return machine_; }
  LoadedModels& loaded() const { return loaded_; }
  // The model of that id, or the first that makes films (pictures) where it is empty. Throws
  // ApiError.
  const ServedModel& Find(const std::string& id, bool is_video) const;
  // The same of a job that was taken before: nullptr when it is not served any more.
  const ServedModel* Served(const std::string& id) const;

  // GET /v1/models
  nlohmann::ordered_json List() const;

 private:
  Limits limits_;
  MachineChoice machine_;
  std::list<ServedModel> models_;
  mutable LoadedModels loaded_;  // what is in memory is no part of what is served
};

}  // namespace tamias::serve
