// The models that are served: loaded once, named by their folders, each with the profiles that it
// can run and what they compute.
#pragma once

#include <cstdint>
#include <filesystem>
#include <list>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tamias/pipeline.h"

namespace tamias::serve {

// What a request may ask for at most.
struct Limits {
  int64_t max_pixels = 0;  // width x height x frames; 0: four times the model's default
  int max_steps = 200;
  int max_n = 8;
  size_t max_prompt_bytes = 8192;
  size_t max_body_bytes = size_t{1} << 20;
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

class ServedModel {
 public:
  // `folder` is what messages of the library name, so it should be absolute.
  ServedModel(const std::filesystem::path& folder, std::string id, const Limits& limits);

  const std::string& id() const { return id_; }
  const Pipeline& pipeline() const { return pipeline_; }
  bool makes_videos() const { return pipeline_.info().makes_videos; }
  int64_t max_pixels() const { return max_pixels_; }
  // From most to least work, "off" first.
  const std::vector<ServedProfile>& profiles() const { return profiles_; }
  // "auto" becomes the model's own. Throws ApiError for a profile that is not served.
  std::string ProfileNamed(const std::string& name) const;

 private:
  void AddProfile(const std::string& name);

  std::string id_;
  Pipeline pipeline_;
  int64_t max_pixels_;
  std::vector<ServedProfile> profiles_;
};

class ModelCatalog {
 public:
  // Throws as Pipeline, and kInvalidArgument where two folders have one name or a model's films
  // begin with a picture, which no request can give.
  ModelCatalog(const std::vector<std::string>& folders, const Limits& limits);

  const std::list<ServedModel>& models() const { return models_; }
  // The model of that id, or the first that makes films (pictures) where it is empty. Throws
  // ApiError.
  const ServedModel& Find(const std::string& id, bool is_video) const;
  // The same of a job that was taken before: nullptr when it is not served any more.
  const ServedModel* Served(const std::string& id) const;

  // GET /v1/models
  nlohmann::ordered_json List() const;

 private:
  Limits limits_;
  std::list<ServedModel> models_;
};

}  // namespace tamias::serve
