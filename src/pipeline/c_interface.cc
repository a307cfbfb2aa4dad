// tamias.h: the C interface over tamias::Pipeline. Exceptions stop here: each becomes a status and
// a message kept per thread.
#include "tamias/tamias.h"

#include <functional>
#include <map>
#include <memory>
#include <new>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "base/number.h"
#include "tamias/pipeline.h"

struct tamias_pipeline {
  tamias::Pipeline pipeline;
};

struct tamias_options {
  tamias::GenerateOptions options;
};

struct tamias_result {
  explicit tamias_result(tamias::GenerateResult&& whole)
      : owned(std::make_unique<tamias::GenerateResult>(std::move(whole))), result(*owned) {}
  explicit tamias_result(const tamias::GenerateResult& so_far) : result(so_far) {}

  std::unique_ptr<tamias::GenerateResult> owned;  // null: of a generation that still runs
  const tamias::GenerateResult& result;
};

namespace {

thread_local std::string last_error;

tamias_status Remember(tamias_status status, const char* message) {
  try {
    last_error = message;
  } catch (...) {
    last_error.clear();
  }
  return status;
}

// Runs the body and turns whatever it throws into a status.
template <typename Body>
tamias_status Guard(const Body& body) {
  try {
    last_error.clear();
    body();
    return TAMIAS_OK;
  } catch (const tamias::Error& error) {
    return Remember(static_cast<tamias_status>(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    return Remember(TAMIAS_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& error) {
    return Remember(TAMIAS_INTERNAL, error.what());
  } catch (...) {
    return Remember(TAMIAS_INTERNAL, "unknown failure");
  }
}

void RequireNotNull(const void* pointer, const char* name) {
  if (pointer == nullptr) {
    tamias::Fail(tamias::ErrorCode::kInvalidArgument, "{}: must not be NULL", name);
  }
}

using Setter = std::function<void(tamias::GenerateOptions&, std::string_view, std::string_view)>;

template <typename Member>
Setter Number(Member tamias::GenerateOptions::*member) {
  return [member](tamias::GenerateOptions& options, std::string_view name, std::string_view text) {
    if constexpr (requires { typename Member::value_type; }) {
      options.*member = tamias::NumberFrom<typename Member::value_type>(name, text);
    } else {
      options.*member = tamias::NumberFrom<Member>(name, text);
    }
  };
}

Setter Text(std::string tamias::GenerateOptions::*member) {
  return [member](tamias::GenerateOptions& options, std::string_view, std::string_view text) {
    options.*member = text;
  };
}

const std::map<std::string_view, Setter>& Setters() {
  using Options = tamias::GenerateOptions;
  static const std::map<std::string_view, Setter> setters = {
      {"prompt", Text(&Options::prompt)},
      {"negative_prompt", Text(&Options::negative_prompt)},
      {"sparsity", Text(&Options::sparsity)},
      {"device", Text(&Options::device)},
      {"dtype", Text(&Options::dtype)},
      {"weight_dtype", Text(&Options::weight_dtype)},
      {"true_cfg_scale", Number(&Options::true_cfg_scale)},
      {"true_cfg_scale_2", Number(&Options::true_cfg_scale_2)},
      {"guidance_scale", Number(&Options::guidance_scale)},
      {"width", Number(&Options::width)},
      {"height", Number(&Options::height)},
      {"frames", Number(&Options::num_frames)},
      {"fps", Number(&Options::fps)},
      {"steps", Number(&Options::steps)},
      {"max_sequence_length", Number(&Options::max_sequence_length)},
      {"seed", Number(&Options::seed)},
      {"num_images", Number(&Options::num_images)},
      {"threads", Number(&Options::threads)},
      {"max_memory",
       [](Options& options, std::string_view name, std::string_view text) {
         options.max_memory_bytes = tamias::BytesFrom(name, text);
       }},
      {"max_gpu_memory",
       [](Options& options, std::string_view name, std::string_view text) {
         options.max_gpu_memory_bytes = tamias::BytesFrom(name, text);
       }},
      {"image", [](Options& options, std::string_view,
                   std::string_view text) { options.image = tamias::ReadImage(text); }},
      {"set", [](Options& options, std::string_view,
                 std::string_view text) { options.overrides.emplace_back(text); }},
  };
  return setters;
}

tamias::ProgressCallback Wrap(tamias_progress_callback callback, void* user_data) {
  if (callback == nullptr) return {};
  return [callback, user_data](const tamias::Progress& progress) {
    const tamias_progress plain = {static_cast<tamias_stage>(progress.stage),
                                   progress.image,
                                   progress.num_images,
                                   progress.step,
                                   progress.num_steps,
                                   progress.step_kind.c_str(),
                                   progress.seconds,
                                   progress.seconds_left};
    return callback(&plain, user_data) != 0;
  };
}

tamias::ResultCallback Wrap(tamias_result_callback callback, void* user_data) {
  if (callback == nullptr) return {};
  return [callback, user_data](const tamias::GenerateResult& result, int image) {
    const tamias_result so_far(result);
    if (callback(&so_far, image, user_data) == 0) {
      throw tamias::Error(tamias::ErrorCode::kCancelled, "interrupted");
    }
  };
}

// The item at an index that C gave us.
template <typename T>
const T& At(const std::vector<T>& items, const char* name, int index) {
  const auto count = static_cast<int>(items.size());
  if (index < 0 || index >= count) {
    tamias::Fail(tamias::ErrorCode::kInvalidArgument,
                 "{}: found {}, but the result has {} (the first is 0)", name, index, count);
  }
  return items[static_cast<size_t>(index)];
}

const tamias::Image& ImageAt(const tamias_result* result, int image) {
  RequireNotNull(result, "result");
  return At(result->result.images, "image", image);
}

const tamias::Video& VideoAt(const tamias_result* result, int video) {
  RequireNotNull(result, "result");
  return At(result->result.videos, "video", video);
}

void GivePixels(const tamias::Image& image, const uint8_t** rgb, int* width, int* height) {
  RequireNotNull(rgb, "rgb");
  RequireNotNull(width, "width");
  RequireNotNull(height, "height");
  *rgb = image.rgb.data();
  *width = image.width;
  *height = image.height;
}

// Null when there is no such video.
const tamias::Video* FindVideo(const tamias_result* result, int video) {
  if (result == nullptr || video < 0 || video >= tamias_result_num_videos(result)) return nullptr;
  return &result->result.videos[static_cast<size_t>(video)];
}

}  // namespace

const char* tamias_version(void) {
  static const std::string version = tamias::Version();
  return version.c_str();
}

const char* tamias_last_error(void) { return last_error.c_str(); }

tamias_status tamias_pipeline_load(const char* folder, tamias_pipeline** pipeline) {
  return tamias_pipeline_load_variant(folder, "", pipeline);
}

tamias_status tamias_pipeline_load_variant(const char* folder, const char* variant,
                                           tamias_pipeline** pipeline) {
  return tamias_pipeline_load_loras(folder, variant, nullptr, 0, pipeline);
}

tamias_status tamias_pipeline_load_loras(const char* folder, const char* variant,
                                         const tamias_lora* loras, size_t count,
                                         tamias_pipeline** pipeline) {
  return Guard([&] {
    RequireNotNull(folder, "folder");
    RequireNotNull(variant, "variant");
    RequireNotNull(pipeline, "pipeline");
    if (count > 0) RequireNotNull(loras, "loras");
    *pipeline = nullptr;
    tamias::LoadOptions options{.variant = variant};
    for (size_t i = 0; i < count; ++i) {
      RequireNotNull(loras[i].file, "file of a LoRA");
      options.loras.push_back({loras[i].file, loras[i].scale, loras[i].transformer});
    }
    *pipeline = new tamias_pipeline{tamias::Pipeline(folder, options)};
  });
}

void tamias_pipeline_destroy(tamias_pipeline* pipeline) { delete pipeline; }

tamias_status tamias_options_create(tamias_options** options) {
  return Guard([&] {
    RequireNotNull(options, "options");
    *options = new tamias_options{};
  });
}

tamias_status tamias_options_set(tamias_options* options, const char* name, const char* value) {
  return Guard([&] {
    RequireNotNull(options, "options");
    RequireNotNull(name, "name");
    RequireNotNull(value, "value");
    const auto setter = Setters().find(name);
    if (setter == Setters().end()) {
      tamias::Fail(tamias::ErrorCode::kInvalidArgument, "option '{}': unknown", name);
    }
    setter->second(options->options, name, value);
  });
}

void tamias_options_destroy(tamias_options* options) { delete options; }

tamias_status tamias_options_on_latents(tamias_options* options, tamias_result_callback callback,
                                        void* user_data) {
  return Guard([&] {
    RequireNotNull(options, "options");
    options->options.on_latents = Wrap(callback, user_data);
  });
}

tamias_status tamias_options_on_result(tamias_options* options, tamias_result_callback callback,
                                       void* user_data) {
  return Guard([&] {
    RequireNotNull(options, "options");
    options->options.on_result = Wrap(callback, user_data);
  });
}

tamias_status tamias_generate(const tamias_pipeline* pipeline, const tamias_options* options,
                              tamias_progress_callback callback, void* user_data,
                              tamias_result** result) {
  return Guard([&] {
    RequireNotNull(pipeline, "pipeline");
    RequireNotNull(options, "options");
    RequireNotNull(result, "result");
    *result = nullptr;
    *result =
        new tamias_result(pipeline->pipeline.Generate(options->options, Wrap(callback, user_data)));
  });
}

tamias_status tamias_decode(const tamias_pipeline* pipeline, const tamias_options* options,
                            const char* latents, tamias_progress_callback callback, void* user_data,
                            tamias_result** result) {
  return Guard([&] {
    RequireNotNull(pipeline, "pipeline");
    RequireNotNull(options, "options");
    RequireNotNull(latents, "latents");
    RequireNotNull(result, "result");
    *result = nullptr;
    *result = new tamias_result(pipeline->pipeline.Decode(
        tamias::ReadLatents(latents), options->options, Wrap(callback, user_data)));
  });
}

void tamias_result_destroy(tamias_result* result) { delete result; }

int tamias_result_num_images(const tamias_result* result) {
  return result == nullptr ? 0 : static_cast<int>(result->result.images.size());
}

tamias_status tamias_result_pixels(const tamias_result* result, int image, const uint8_t** rgb,
                                   int* width, int* height) {
  return Guard([&] { GivePixels(ImageAt(result, image), rgb, width, height); });
}

const char* tamias_result_report(const tamias_result* result) {
  return result == nullptr ? "" : result->result.report_json.c_str();
}

tamias_status tamias_result_write_png(const tamias_result* result, int image, const char* path) {
  return Guard([&] {
    RequireNotNull(path, "path");
    tamias::WritePng(path, ImageAt(result, image));
  });
}

tamias_status tamias_result_write_image(const tamias_result* result, int image, const char* path,
                                        int quality) {
  return Guard([&] {
    RequireNotNull(path, "path");
    tamias::ImageOptions options;
    if (quality != 0) options.quality = quality;
    tamias::WriteImage(path, ImageAt(result, image), {}, options);
  });
}

tamias_status tamias_result_latents(const tamias_result* result, int image, const float** values,
                                    int64_t* tokens, int64_t* channels) {
  return Guard([&] {
    RequireNotNull(result, "result");
    RequireNotNull(values, "values");
    RequireNotNull(tokens, "tokens");
    RequireNotNull(channels, "channels");
    const tamias::Latents& latents = At(result->result.latents, "image", image);
    *values = latents.values.data();
    *tokens = latents.tokens;
    *channels = latents.channels;
  });
}

tamias_status tamias_write_latents(const tamias_pipeline* pipeline, const tamias_options* options,
                                   const tamias_result* result, const char* path) {
  return Guard([&] {
    RequireNotNull(pipeline, "pipeline");
    RequireNotNull(options, "options");
    RequireNotNull(result, "result");
    RequireNotNull(path, "path");
    tamias::WriteLatents(path, result->result.latents,
                         pipeline->pipeline.LatentsText(options->options));
  });
}

int tamias_result_num_videos(const tamias_result* result) {
  return result == nullptr ? 0 : static_cast<int>(result->result.videos.size());
}

int tamias_result_num_frames(const tamias_result* result, int video) {
  const tamias::Video* found = FindVideo(result, video);
  return found == nullptr ? 0 : static_cast<int>(found->frames.size());
}

double tamias_result_fps(const tamias_result* result, int video) {
  const tamias::Video* found = FindVideo(result, video);
  return found == nullptr ? 0 : found->fps;
}

tamias_status tamias_result_frame(const tamias_result* result, int video, int frame,
                                  const uint8_t** rgb, int* width, int* height) {
  return Guard(
      [&] { GivePixels(At(VideoAt(result, video).frames, "frame", frame), rgb, width, height); });
}

tamias_status tamias_result_write_video(const tamias_result* result, int video, const char* path) {
  return Guard([&] {
    RequireNotNull(path, "path");
    tamias::WriteVideo(path, VideoAt(result, video));
  });
}
