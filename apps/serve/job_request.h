// From a request's fields to the settings of a job: limits are checked, defaults filled in, and
// what would not fit the machine is refused before it is taken.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "job.h"
#include "model_catalog.h"
#include "tamias/machine.h"

namespace tamias::serve {

// What a request asks for; what is not there takes the model's default.
struct JobRequest {
  bool is_video = false;
  std::string model;  // empty: the first that makes it
  std::string prompt;
  std::string negative_prompt;
  std::optional<int> width;
  std::optional<int> height;
  std::optional<int> num_frames;
  std::optional<double> seconds;  // of a film, in place of num_frames
  std::optional<double> fps;
  std::string picture;  // the file that a film begins with; empty: none
  std::optional<int> steps;
  std::optional<uint64_t> seed;  // absent: one is drawn
  int n = 1;
  std::optional<double> true_cfg_scale;
  std::optional<double> true_cfg_scale_2;
  std::optional<double> guidance_scale;
  std::optional<int> max_sequence_length;
  std::string profile = "auto";
  std::vector<std::string> overrides;
  std::string format;  // empty: png or mp4
  int quality = 90;
};

// Throws ApiError for a plan that needs more than the server has where nothing else runs: of the
// host what the limits say, of a GPU what is free, or was when no job ran (idle_gpu_bytes, by
// name).
void CheckFits(const MemoryPlan& plan, const std::vector<MemoryLimit>& limits,
               const std::map<std::string, size_t>& idle_gpu_bytes);

class RequestChecker {
 public:
  RequestChecker(const ModelCatalog& catalog, const Limits& limits)
      : catalog_(catalog), limits_(limits) {}

  const Limits& limits() const { return limits_; }
  const ModelCatalog& catalog() const { return catalog_; }
  // Throws ApiError. Threads may call it at once.
  JobSettings Complete(const JobRequest& request);

 private:
  std::optional<Image> ReadPicture(const std::string& file);
  JobSettings CompleteWith(const Pipeline& pipeline, const ServedModel& model,
                           const JobRequest& request);
  void CheckSize(const ServedModel& model, const JobSettings& settings) const;
  void CheckPlan(const Pipeline& pipeline, const ServedModel& model, const JobSettings& settings);

  const ModelCatalog& catalog_;
  Limits limits_;
  std::mutex mutex_;
  std::set<std::string> fitting_;  // what decides plans that were found to fit
  std::mutex picture_mutex_;  // one is decoded at a time: its pixels may be many times its file
};

}  // namespace tamias::serve
