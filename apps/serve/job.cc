// Jobs as JSON for the store, as options for the library, as a command line for people.
#include "job.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "tamias/error.h"

namespace tamias::serve {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<const char*, 5> kStatusNames = {"queued", "in_progress", "completed", "failed",
                                                     "cancelled"};
constexpr size_t kIdDigits = 32;

std::string Quoted(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

JobSettings SettingsFrom(const Json& json) {
  JobSettings settings;
  json.at("model").get_to(settings.model);
  settings.is_video = json.contains("num_frames");
  json.at("prompt").get_to(settings.prompt);
  json.at("negative_prompt").get_to(settings.negative_prompt);
  json.at("width").get_to(settings.width);
  json.at("height").get_to(settings.height);
  if (settings.is_video) {
    json.at("num_frames").get_to(settings.num_frames);
    json.at("fps").get_to(settings.fps);
  }
  json.at("steps").get_to(settings.steps);
  json.at("seed").get_to(settings.seed);
  json.at("n").get_to(settings.n);
  json.at("true_cfg_scale").get_to(settings.true_cfg_scale);
  if (json.contains("true_cfg_scale_2")) settings.true_cfg_scale_2 = json.at("true_cfg_scale_2");
  if (json.contains("guidance_scale")) settings.guidance_scale = json.at("guidance_scale");
  json.at("max_sequence_length").get_to(settings.max_sequence_length);
  json.at("profile").get_to(settings.profile);
  json.at("sparsity").get_to(settings.overrides);
  json.at("output_format").get_to(settings.format);
  json.at("quality").get_to(settings.quality);
  return settings;
}

}  // namespace

const char* Name(JobStatus status) { return kStatusNames[static_cast<size_t>(status)]; }

JobStatus JobStatusFrom(const std::string& name) {
  const auto found = std::ranges::find(kStatusNames, name);
  if (found == kStatusNames.end()) {
    throw Error(ErrorCode::kInvalidFile, fmt::format("jobs: status: unknown, found '{}'", name));
  }
  return static_cast<JobStatus>(found - kStatusNames.begin());
}

std::string NewJobId(bool is_video) {
  std::array<uint8_t, kIdDigits / 2> bytes{};
  size_t filled = 0;
  while (filled < bytes.size()) {
    const ssize_t got = getrandom(bytes.data() + filled, bytes.size() - filled, 0);
    if (got > 0) filled += static_cast<size_t>(got);
    if (got < 0 && errno != EINTR) throw Error(ErrorCode::kIo, "getrandom: cannot read");
  }
  std::string id = is_video ? "vid-" : "img-";
  for (const uint8_t byte : bytes) id += fmt::format("{:02x}", byte);
  return id;
}

bool IsJobId(const std::string& text) {
  return text.size() == 4 + kIdDigits && (text.starts_with("img-") || text.starts_with("vid-")) &&
         text.find_first_not_of("0123456789abcdef", 4) == std::string::npos;
}

GenerateOptions OptionsOf(const JobSettings& settings) {
  GenerateOptions options;
  options.prompt = settings.prompt;
  options.negative_prompt = settings.negative_prompt;
  options.width = settings.width;
  options.height = settings.height;
  if (settings.is_video) {
    options.num_frames = settings.num_frames;
    options.fps = settings.fps;
  }
  options.steps = settings.steps;
  options.seed = settings.seed;
  options.num_images = settings.n;
  options.true_cfg_scale = settings.true_cfg_scale;
  options.true_cfg_scale_2 = settings.true_cfg_scale_2;
  options.guidance_scale = settings.guidance_scale;
  options.max_sequence_length = settings.max_sequence_length;
  options.sparsity = settings.profile;
  options.overrides = settings.overrides;
  return options;
}

std::string ShapeOf(const JobSettings& settings) {
  return fmt::format("{} {}x{}x{}", settings.model, settings.width, settings.height,
                     settings.num_frames);
}

Json ToJson(const JobSettings& settings) {
  Json json = {{"model", settings.model},
               {"prompt", settings.prompt},
               {"negative_prompt", settings.negative_prompt},
               {"width", settings.width},
               {"height", settings.height}};
  if (settings.is_video) {
    json["num_frames"] = settings.num_frames;
    json["fps"] = settings.fps;
  }
  json["steps"] = settings.steps;
  json["seed"] = settings.seed;
  json["n"] = settings.n;
  json["true_cfg_scale"] = settings.true_cfg_scale;
  if (settings.true_cfg_scale_2) json["true_cfg_scale_2"] = *settings.true_cfg_scale_2;
  if (settings.guidance_scale) json["guidance_scale"] = *settings.guidance_scale;
  json["max_sequence_length"] = settings.max_sequence_length;
  json["profile"] = settings.profile;
  json["sparsity"] = settings.overrides;
  json["output_format"] = settings.format;
  json["quality"] = settings.quality;
  return json;
}

std::string ToRecord(const Job& job) {
  const Json json = {{"settings", ToJson(job.settings)},
                     {"created_at", job.created_at},
                     {"started_at", job.started_at},
                     {"finished_at", job.finished_at},
                     {"interruptions", job.interruptions},
                     {"error_message", job.error_message},
                     {"error_code", job.error_code},
                     {"files", job.files},
                     {"steps", job.steps},
                     {"seconds_total", job.seconds_total},
                     {"seconds_encode", job.seconds_encode},
                     {"seconds_denoise", job.seconds_denoise},
                     {"seconds_decode", job.seconds_decode}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Job FromRecord(const std::string& record) {
  try {
    const Json json = Json::parse(record);
    Job job;
    job.settings = SettingsFrom(json.at("settings"));
    json.at("created_at").get_to(job.created_at);
    json.at("started_at").get_to(job.started_at);
    json.at("finished_at").get_to(job.finished_at);
    json.at("interruptions").get_to(job.interruptions);
    json.at("error_message").get_to(job.error_message);
    json.at("error_code").get_to(job.error_code);
    json.at("files").get_to(job.files);
    json.at("steps").get_to(job.steps);
    json.at("seconds_total").get_to(job.seconds_total);
    json.at("seconds_encode").get_to(job.seconds_encode);
    json.at("seconds_denoise").get_to(job.seconds_denoise);
    json.at("seconds_decode").get_to(job.seconds_decode);
    return job;
  } catch (const Json::exception& error) {
    throw Error(ErrorCode::kInvalidFile, fmt::format("jobs: record: {}", error.what()));
  }
}

std::string CommandLine(const JobSettings& settings) {
  std::string line = fmt::format("tamias generate --model {} --prompt {}", Quoted(settings.model),
                                 Quoted(settings.prompt));
  if (!settings.negative_prompt.empty()) {
    line += " --negative-prompt " + Quoted(settings.negative_prompt);
  }
  line += fmt::format(" --width {} --height {}", settings.width, settings.height);
  if (settings.is_video) {
    line += fmt::format(" --frames {} --fps {}", settings.num_frames, settings.fps);
  }
  line += fmt::format(" --steps {} --seed {} --true-cfg-scale {}", settings.steps, settings.seed,
                      settings.true_cfg_scale);
  if (settings.true_cfg_scale_2)
    line += fmt::format(" --true-cfg-scale-2 {}", *settings.true_cfg_scale_2);
  if (settings.guidance_scale)
    line += fmt::format(" --guidance-scale {}", *settings.guidance_scale);
  line += fmt::format(" --max-sequence-length {} --sparsity {}", settings.max_sequence_length,
                      settings.profile);
  for (const std::string& assignment : settings.overrides) line += " --set " + Quoted(assignment);
  if (settings.n > 1) line += fmt::format(" --num-images {}", settings.n);
  const bool is_lossy = settings.format == "jpeg" || settings.format == "webp";
  if (is_lossy) line += fmt::format(" --quality {}", settings.quality);
  return line + " --output result." + settings.format;
}

}  // namespace tamias::serve
