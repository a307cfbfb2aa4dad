// For each setting the option, else the model's tamias.json, else the family's default; then
// ranges, multiples and what the family does not take, each error naming the setting.
#include "pipeline/generation_settings.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "io/unicode.h"

namespace tamias {
namespace {

constexpr int kMaxSide =
    1 << 20;  // pixels; far above what any plan fits, low enough for arithmetic
constexpr int kMaxFrames = 1 << 16;
constexpr double kMaxFps = 1000;
constexpr int kMaxSteps = 1000;
constexpr int kMaxImages = 256;
constexpr int kMaxThreads = 1024;
constexpr size_t kMaxPromptBytes = 1 << 20;
constexpr int kMaxImageSide = 32768;  // pixels, as files may have
constexpr int kMaxImageAspect = 100;

void CheckRange(const char* name, double value, double min, double max) {
  if (!(value >= min && value <= max)) {
    Fail(ErrorCode::kInvalidArgument, "{}: expected a number from {} to {}, found {}", name, min,
         max, value);
  }
}

void CheckSide(const char* name, int value, int multiple) {
  CheckRange(name, value, multiple, kMaxSide);
  if (value % multiple != 0) {
    Fail(ErrorCode::kInvalidArgument, "{}: expected a multiple of {}, found {} (nearest: {})", name,
         multiple, value, (value + multiple / 2) / multiple * multiple);
  }
}

void CheckFrames(const GenerateOptions& options, const GenerationSettings& settings,
                 const FamilyDefaults& family) {
  if (!family.makes_videos()) {
    const auto refuse = [](const char* name) {
      Fail(ErrorCode::kInvalidArgument, "{}: this model makes pictures, not films", name);
    };
    if (options.num_frames && *options.num_frames != 1) refuse("num_frames");
    if (options.fps) refuse("fps");
    return;
  }
  CheckRange("num_frames", settings.num_frames, 1, kMaxFrames);
  CheckRange("fps", settings.fps, 0.01, kMaxFps);
  const int multiple = family.frame_multiple;
  if ((settings.num_frames - 1) % multiple != 0) {
    const int nearest = (settings.num_frames - 1 + multiple / 2) / multiple * multiple + 1;
    Fail(ErrorCode::kInvalidArgument,
         "num_frames: expected one more than a multiple of {}, found {} (nearest: {})", multiple,
         settings.num_frames, nearest);
  }
}

void CheckPrompt(const char* name, const std::string& prompt) {
  if (prompt.size() > kMaxPromptBytes) {
    Fail(ErrorCode::kInvalidArgument, "{}: {} bytes are more than the {} allowed", name,
         prompt.size(), kMaxPromptBytes);
  }
  CheckUtf8(prompt, name);
}

void CheckImage(const GenerateOptions& options, const FamilyDefaults& family) {
  if (!options.image) return;
  const auto& [width, height, rgb] = *options.image;
  if (!family.needs_image) {
    Fail(ErrorCode::kInvalidArgument, "image: this model makes {} of text alone",
         family.makes_videos() ? "films" : "pictures");
  }
  if (width < 1 || height < 1 || width > kMaxImageSide || height > kMaxImageSide ||
      std::max(width, height) / std::min(width, height) >= kMaxImageAspect) {
    Fail(ErrorCode::kInvalidArgument,
         "image: expected sides of 1 to {} pixels that differ less than {}-fold, found {}x{}",
         kMaxImageSide, kMaxImageAspect, width, height);
  }
  const size_t expected = size_t{3} * static_cast<size_t>(width) * static_cast<size_t>(height);
  if (rgb.size() != expected) {
    Fail(ErrorCode::kInvalidArgument, "image: {}x{} pixels: expected {} bytes, found {}", width,
         height, expected, rgb.size());
  }
}

// Gives the sides that are not given the picture's shape, as diffusers' examples do: of the area
// that the settings have, or beside the other side.
void FollowImage(const GenerateOptions& options, int multiple, GenerationSettings& settings) {
  const double aspect = static_cast<double>(options.image->height) / options.image->width;
  const double area = static_cast<double>(settings.width) * settings.height;
  const auto fit = [&](double side) {
    return std::max(1, static_cast<int>(std::nearbyint(side)) / multiple) * multiple;
  };
  if (!options.width && !options.height) {
    settings.width = fit(std::sqrt(area / aspect));
    settings.height = fit(std::sqrt(area * aspect));
  } else if (!options.width) {
    settings.width = fit(settings.height / aspect);
  } else if (!options.height) {
    settings.height = fit(settings.width * aspect);
  }
}

// Defaults fit the model whatever it allows; only what the caller gave is refused.
int FittingSide(int side, int multiple) { return std::max(1, side / multiple) * multiple; }

int FittingFrames(int frames, int multiple) { return (frames - 1) / multiple * multiple + 1; }

}  // namespace

std::string SizeText(const GenerationSettings& settings) {
  const std::string size = fmt::format("{}x{} pixels", settings.width, settings.height);
  return settings.num_frames == 1 ? size
                                  : fmt::format("{} and {} frames", size, settings.num_frames);
}

GenerationSettings ResolveSettings(const GenerateOptions& options, const ModelDefaults& model,
                                   const FamilyDefaults& family) {
  const auto pick = [](const auto& option, const auto& from_model, auto from_family) {
    return option ? *option : from_model.value_or(from_family);
  };
  GenerationSettings settings;
  settings.width =
      options.width.value_or(FittingSide(model.width.value_or(family.width), family.size_multiple));
  settings.height = options.height.value_or(
      FittingSide(model.height.value_or(family.height), family.size_multiple));
  settings.num_frames = options.num_frames.value_or(
      FittingFrames(model.num_frames.value_or(family.num_frames), family.frame_multiple));
  settings.fps = pick(options.fps, model.fps, family.fps);
  settings.steps = pick(options.steps, model.steps, family.steps);
  settings.max_sequence_length = options.max_sequence_length.value_or(
      std::min(model.max_sequence_length.value_or(family.max_sequence_length),
               family.max_sequence_length_limit));
  settings.true_cfg_scale =
      pick(options.true_cfg_scale, model.true_cfg_scale, family.true_cfg_scale);
  if (family.has_experts) {
    settings.true_cfg_scale_2 =
        pick(options.true_cfg_scale_2, model.true_cfg_scale_2, settings.true_cfg_scale);
  } else if (options.true_cfg_scale_2) {
    Fail(ErrorCode::kInvalidArgument, "true_cfg_scale_2: this model has one transformer");
  }
  settings.guidance_scale =
      pick(options.guidance_scale, model.guidance_scale, family.guidance_scale);

  CheckImage(options, family);
  if (options.image) FollowImage(options, family.size_multiple, settings);
  CheckSide("width", settings.width, family.size_multiple);
  CheckSide("height", settings.height, family.size_multiple);
  CheckFrames(options, settings, family);
  CheckRange("steps", settings.steps, 1, kMaxSteps);
  CheckRange("max_sequence_length", settings.max_sequence_length, 1,
             family.max_sequence_length_limit);
  CheckRange("true_cfg_scale", settings.true_cfg_scale, 0, 1000);
  if (settings.true_cfg_scale_2) {
    CheckRange("true_cfg_scale_2", *settings.true_cfg_scale_2, 0, 1000);
  }
  CheckRange("guidance_scale", settings.guidance_scale, 0, 1000);
  CheckRange("num_images", options.num_images, 1, kMaxImages);
  CheckRange("threads", options.threads, 0, kMaxThreads);
  CheckPrompt("prompt", options.prompt);
  CheckPrompt("negative_prompt", options.negative_prompt);
  return settings;
}

}  // namespace tamias
