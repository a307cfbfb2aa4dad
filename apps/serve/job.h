// A job: what was asked for, where it stands and what came of it. This is what the store keeps.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tamias/pipeline.h"

namespace tamias::serve {

enum class JobStatus { kQueued, kInProgress, kCompleted, kFailed, kCancelled };

const char* Name(JobStatus status);  // "queued", "in_progress", ...
JobStatus JobStatusFrom(const std::string& name);

// Everything that decides the result, each default filled in when the job was taken: a restart with
// other defaults goes on with these.
struct JobSettings {
  std::string model;  // its id
  bool is_video = false;
  std::string prompt;
  std::string negative_prompt;
  int width = 0;       // pixels
  int height = 0;      // pixels
  int num_frames = 1;  // of a film
  double fps = 0;      // of a film
  // What the film begins with: its size, "70x50", and the SHA-256 of its file. The file itself lies
  // beside the results until the job has ended.
  std::optional<std::string> picture;
  std::optional<std::string> picture_sha256;
  int steps = 0;
  uint64_t seed = 0;
  int n = 1;  // pictures or films
  double true_cfg_scale = 1;
  std::optional<double> true_cfg_scale_2;  // of models with a second transformer
  std::optional<double> guidance_scale;
  int max_sequence_length = 0;
  std::string profile;                 // "off", or a profile's name
  std::vector<std::string> overrides;  // "attn.top_keys=0.1"
  std::string format = "png";          // png, jpeg, webp; of films mp4
  int quality = 90;                    // of jpeg and webp
  std::string device = "cpu";
  std::string dtype = "auto";
  std::string weight_dtype = "auto";
};

struct Job {
  std::string id;
  std::string owner;
  bool is_kept = true;  // false: its client waits, and cancels it by leaving
  JobStatus status = JobStatus::kQueued;
  JobSettings settings;
  int64_t created_at = 0;   // seconds since 1970, as the next two
  int64_t started_at = 0;   // 0: not yet
  int64_t finished_at = 0;  // 0: not yet
  int interruptions = 0;    // times that the server ended while it ran
  std::string error_message;
  std::string error_code;
  std::vector<std::string> files;  // names in the output folder, in order
  // One text for each picture or film, one letter a step: f full, s sparse, k skipped.
  std::vector<std::string> steps;
  double seconds_total = 0;
  double seconds_encode = 0;
  double seconds_denoise = 0;
  double seconds_decode = 0;

  // As before it ran.
  void Requeue() {
    status = JobStatus::kQueued;
    started_at = 0;
    steps.clear();
    files.clear();
  }
  bool HasEnded() const { return status != JobStatus::kQueued && status != JobStatus::kInProgress; }
};

// 128 random bits in hexadecimal digits behind "img-" or "vid-": not to be guessed.
std::string NewJobId(bool is_video);
// Whether a text could be one.
bool IsJobId(const std::string& text);

// For the library, without the picture.
GenerateOptions OptionsOf(const JobSettings& settings);
// Jobs of one shape may share what a model keeps warm: model, size and frames.
std::string ShapeOf(const JobSettings& settings);

// How the store keeps it, and back. What a record does not have keeps its default: earlier versions
// did not know of it. Throws kInvalidFile for another text.
std::string ToRecord(const Job& job);
Job FromRecord(const std::string& record);

nlohmann::ordered_json ToJson(const JobSettings& settings);

// The same as a command line. The model stands there by its id, and a picture by its field's name:
// where its folder lies is this machine's matter, and what the file was called its owner's.
std::string CommandLine(const JobSettings& settings);

}  // namespace tamias::serve
