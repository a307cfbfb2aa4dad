// The library checks its own options and reads the picture; here are the server's limits and the
// memory plan.
#include "job_request.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "api_error.h"
#include "sha256.h"
#include "tamias/image.h"
#include "tamias/text.h"

namespace tamias::serve {
namespace {

constexpr size_t kMaxPlansKept = 1000;

// 32 bits: pages hold it exactly.
uint64_t DrawSeed() { return std::random_device()(); }

// Films last one frame more than a multiple of the family's: the nearest number of frames.
int FramesFor(const Pipeline& pipeline, double seconds, double fps) {
  const double wanted = std::clamp(seconds * fps, 1.0, 1e6);
  for (const int multiple : {4, 6}) {
    const int frames = 1 + multiple * static_cast<int>(std::lround((wanted - 1) / multiple));
    GenerateOptions options;
    options.num_frames = frames;
    try {
      pipeline.Settings(options);
      return frames;
    } catch (const Error&) {
      continue;  // the family counts otherwise
    }
  }
  return static_cast<int>(wanted);
}

GenerateOptions OptionsOf(const JobRequest& request, const ServedModel& model,
                          const Pipeline& pipeline) {
  GenerateOptions options;
  options.prompt = request.prompt;
  options.negative_prompt = request.negative_prompt;
  options.width = request.width;
  options.height = request.height;
  options.num_frames = request.num_frames;
  options.fps = request.fps;
  options.steps = request.steps;
  options.true_cfg_scale = request.true_cfg_scale;
  options.true_cfg_scale_2 = request.true_cfg_scale_2;
  options.guidance_scale = request.guidance_scale;
  options.max_sequence_length = request.max_sequence_length;
  options.num_images = request.n;
  if (request.seconds) {
    const double fps = request.fps.value_or(model.info().defaults.fps);
    options.num_frames = FramesFor(pipeline, *request.seconds, fps);
  }
  options.sparsity = model.ProfileNamed(request.profile);
  options.overrides = request.overrides;
  return options;
}

}  // namespace

void CheckFits(const MemoryPlan& plan, const std::vector<MemoryLimit>& limits,
               const std::map<std::string, size_t>& idle_gpu_bytes) {
  for (const MemoryLimit& limit : limits) {
    if (plan.peak_bytes <= limit.bytes) continue;
    throw InvalidRequest("size",
                         fmt::format("size: needs {} of memory, and the server has {}",
                                     BytesText(plan.peak_bytes), BytesText(limit.bytes)),
                         "too_large");
  }
  for (const DeviceMemory& gpu : plan.devices) {
    // Weights of other models may be there now.
    const auto idle = idle_gpu_bytes.find(gpu.device);
    const size_t free = std::max(gpu.free_bytes, idle == idle_gpu_bytes.end() ? 0 : idle->second);
    if (gpu.bytes <= free) continue;
    throw InvalidRequest("size",
                         fmt::format("size: needs {} of GPU memory, and the server has {} on {}",
                                     BytesText(gpu.bytes), BytesText(free), gpu.device),
                         "too_large");
  }
}

void RequestChecker::CheckSize(const ServedModel& model, const JobSettings& settings) const {
  const int64_t pixels = int64_t{settings.width} * settings.height * settings.num_frames;
  if (pixels > model.max_pixels()) {
    throw InvalidRequest(
        "size",
        fmt::format("size: expected at most {} pixels{}, found {}x{}{} = {}", model.max_pixels(),
                    settings.is_video ? " in all frames" : "", settings.width, settings.height,
                    settings.is_video ? fmt::format("x{}", settings.num_frames) : "", pixels),
        "too_large");
  }
  if (settings.steps > limits_.max_steps) {
    throw InvalidRequest("steps", fmt::format("steps: expected at most {}, found {}",
                                              limits_.max_steps, settings.steps));
  }
}

// Also refuses bad overrides.
void RequestChecker::CheckPlan(const Pipeline& pipeline, const ServedModel& model,
                               const JobSettings& settings) {
  const std::string key =
      fmt::format("{} {} {} {} {} {} {}", ShapeOf(settings), settings.profile,
                  fmt::join(settings.overrides, " "), settings.steps, settings.n,
                  settings.max_sequence_length, settings.true_cfg_scale > 1);
  {
    const std::scoped_lock lock(mutex_);
    if (fitting_.contains(key)) return;
  }
  CheckFits(pipeline.PlanMemory(serve::OptionsOf(settings)), MemoryLimits(),
            model.idle_gpu_bytes());
  const std::scoped_lock lock(mutex_);
  if (fitting_.size() >= kMaxPlansKept) fitting_.clear();
  fitting_.insert(key);
}

std::optional<Image> RequestChecker::ReadPicture(const std::string& file) {
  if (file.empty()) return std::nullopt;
  const std::scoped_lock lock(picture_mutex_);
  try {
    return DecodeImage({reinterpret_cast<const uint8_t*>(file.data()), file.size()},
                       "input_reference", limits_.max_picture_pixels);
  } catch (const Error& error) {
    throw InvalidRequest("input_reference", WithoutPaths(error.what()));
  }
}

JobSettings RequestChecker::Complete(const JobRequest& request) {
  const ServedModel& model = catalog_.Find(request.model, request.is_video);
  if (model.info().needs_image && request.picture.empty()) {
    throw InvalidRequest(
        "input_reference",
        fmt::format("input_reference: {} makes films of a picture: expected one, found none",
                    model.id()),
        "missing");
  }
  try {
    return CompleteWith(*catalog_.loaded().Look(model.source()), model, request);
  } catch (const Error& error) {
    ApiError answer = FromLibrary(error);
    constexpr std::string_view kImage = "image: ";
    const std::string message = answer.what();
    if (!message.starts_with(kImage)) throw answer;
    // The library's name for what is this field here.
    throw InvalidRequest("input_reference",
                         "input_reference: " + model.id() + ": " + message.substr(kImage.size()));
  }
}

JobSettings RequestChecker::CompleteWith(const Pipeline& pipeline, const ServedModel& model,
                                         const JobRequest& request) {
  GenerateOptions options = OptionsOf(request, model, pipeline);
  options.image = ReadPicture(request.picture);
  const GenerationSettings in_force = pipeline.Settings(options);
  JobSettings settings;
  settings.model = model.id();
  settings.is_video = request.is_video;
  settings.prompt = request.prompt;
  settings.negative_prompt = request.negative_prompt;
  settings.width = in_force.width;
  settings.height = in_force.height;
  settings.num_frames = in_force.num_frames;
  settings.fps = in_force.fps;
  if (options.image) {
    settings.picture = fmt::format("{}x{}", options.image->width, options.image->height);
    settings.picture_sha256 = Sha256Text(request.picture);
  }
  settings.steps = in_force.steps;
  settings.seed = request.seed ? *request.seed : DrawSeed();
  settings.n = request.n;
  settings.true_cfg_scale = in_force.true_cfg_scale;
  settings.true_cfg_scale_2 = in_force.true_cfg_scale_2;
  settings.guidance_scale = request.guidance_scale;
  settings.max_sequence_length = in_force.max_sequence_length;
  settings.profile = options.sparsity;
  settings.overrides = request.overrides;
  settings.format = !request.format.empty() ? request.format : request.is_video ? "mp4" : "png";
  settings.quality = request.quality;
  settings.device = catalog_.machine().DeviceFor(in_force);
  settings.dtype = catalog_.machine().dtype;
  settings.weight_dtype = catalog_.machine().weight_dtype;
  CheckSize(model, settings);
  CheckPlan(pipeline, model, settings);
  return settings;
}

}  // namespace tamias::serve
