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

// The fields of JSON, once for both directions: a visitor writes each, or reads it where it is.
template <typename Settings, typename Visit>
void VisitSettings(Settings& settings, const Visit& visit) {
  visit("model", settings.model);
  visit("prompt", settings.prompt);
  visit("negative_prompt", settings.negative_prompt);
  visit("width", settings.width);
  visit("height", settings.height);
  if (settings.is_video) {
    visit("num_frames", settings.num_frames);
    visit("fps", settings.fps);
    visit("picture", settings.picture);
    visit("picture_sha256", settings.picture_sha256);
  }
  visit("steps", settings.steps);
  visit("seed", settings.seed);
  visit("n", settings.n);
  visit("true_cfg_scale", settings.true_cfg_scale);
  visit("true_cfg_scale_2", settings.true_cfg_scale_2);
  visit("guidance_scale", settings.guidance_scale);
  visit("max_sequence_length", settings.max_sequence_length);
  visit("profile", settings.profile);
  visit("sparsity", settings.overrides);
  visit("output_format", settings.format);
  visit("quality", settings.quality);
  visit("device", settings.device);
  visit("dtype", settings.dtype);
  visit("weight_dtype", settings.weight_dtype);
}

// All but the settings.
template <typename AnyJob, typename Visit>
void VisitJob(AnyJob& job, const Visit& visit) {
  visit("created_at", job.created_at);
  visit("started_at", job.started_at);
  visit("finished_at", job.finished_at);
  visit("interruptions", job.interruptions);
  visit("error_message", job.error_message);
  visit("error_code", job.error_code);
  visit("files", job.files);
  visit("steps", job.steps);
  visit("seconds_total", job.seconds_total);
  visit("seconds_encode", job.seconds_encode);
  visit("seconds_denoise", job.seconds_denoise);
  visit("seconds_decode", job.seconds_decode);
}

struct Write {
  Json& json;

  template <typename T>
  void operator()(const char* name, const T& value) const {
    json[name] = value;
  }
  template <typename T>
  void operator()(const char* name, const std::optional<T>& value) const {
    if (value) json[name] = *value;
  }
};

struct Read {
  const Json& json;

  template <typename T>
  void operator()(const char* name, T& value) const {
    if (json.contains(name)) json.at(name).get_to(value);
  }
  template <typename T>
  void operator()(const char* name, std::optional<T>& value) const {
    if (json.contains(name)) value = json.at(name).get<T>();
  }
};

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
  options.device = settings.device;
  options.dtype = settings.dtype;
  options.weight_dtype = settings.weight_dtype;
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
  Json json;
  VisitSettings(settings, Write{json});
  return json;
}

std::string ToRecord(const Job& job) {
  Json json = {{"settings", ToJson(job.settings)}};
  VisitJob(job, Write{json});
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Job FromRecord(const std::string& record) {
  try {
    const Json json = Json::parse(record);
    Job job;
    VisitJob(job, Read{json});
    job.settings.is_video = json.at("settings").contains("num_frames");
    VisitSettings(job.settings, Read{json.at("settings")});
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
  if (settings.picture) line += " --image input_reference";
  line += fmt::format(" --steps {} --seed {} --true-cfg-scale {}", settings.steps, settings.seed,
                      settings.true_cfg_scale);
  if (settings.true_cfg_scale_2)
    line += fmt::format(" --true-cfg-scale-2 {}", *settings.true_cfg_scale_2);
  if (settings.guidance_scale)
    line += fmt::format(" --guidance-scale {}", *settings.guidance_scale);
  line += fmt::format(" --max-sequence-length {} --sparsity {}", settings.max_sequence_length,
                      settings.profile);
  for (const std::string& assignment : settings.overrides) line += " --set " + Quoted(assignment);
  if (settings.device != "cpu") line += " --device " + settings.device;
  if (settings.dtype != "auto") line += " --dtype " + settings.dtype;
  if (settings.weight_dtype != "auto") line += " --weight-dtype " + settings.weight_dtype;
  if (settings.n > 1) line += fmt::format(" --num-images {}", settings.n);
  const bool is_lossy = settings.format == "jpeg" || settings.format == "webp";
  if (is_lossy) line += fmt::format(" --quality {}", settings.quality);
  return line + " --output result." + settings.format;
}

}  // namespace tamias::serve
