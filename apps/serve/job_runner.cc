// Steps a tamias::Generation, and says after each what happened.
#include "job_runner.h"

#include <fmt/format.h>

#include <chrono>
#include <ctime>
#include <new>
#include <span>

#include "api_error.h"
#include "base64.h"
#include "job_json.h"
#include "tamias/files.h"
#include "tamias/generation.h"

namespace tamias::serve {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kPreviewInterval = std::chrono::milliseconds(250);

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

char LetterOf(const std::string& kind) {
  return kind == "full" ? 'f' : kind == "sparse" ? 's' : 'k';
}

// Takes the library's progress into the job, and hands it on as events.
class ProgressReporter {
 public:
  ProgressReporter(LiveJob& live, Metrics& metrics) : live_(live), metrics_(metrics) {}

  // False: the job is to stop.
  bool operator()(const Progress& progress) {
    const char* stage = tamias::Name(progress.stage);
    live_.SetProgress({stage, progress.image, progress.step, progress.num_steps, progress.seconds,
                       progress.seconds_left});
    if (progress.stage == Stage::kDenoise && !progress.step_kind.empty()) {
      ReportStep(progress);
    } else {
      live_.Publish("stage", {{"stage", stage},
                              {"image", progress.image},
                              {"step", progress.step},
                              {"num_steps", progress.num_steps},
                              {"seconds_left", progress.seconds_left}});
    }
    return live_.stop() == LiveJob::Stop::kNone;
  }

 private:
  void ReportStep(const Progress& progress) {
    metrics_.CountStep(progress.step_kind);
    live_.Edit([&](Job& job) {
      job.steps.resize(static_cast<size_t>(progress.image) + 1);
      job.steps.back() += LetterOf(progress.step_kind);
    });
    live_.Publish("step", {{"image", progress.image},
                           {"num_images", progress.num_images},
                           {"step", progress.step},
                           {"num_steps", progress.num_steps},
                           {"kind", progress.step_kind},
                           {"seconds", progress.seconds},
                           {"seconds_left", progress.seconds_left}});
  }

  LiveJob& live_;
  Metrics& metrics_;
};

// What the last step predicted, kept where a preview is due.
struct LastPrediction {
  std::vector<float> velocity;
  double next_sigma = 0;
  Clock::time_point shown_at;

  bool IsDue() const { return Clock::now() - shown_at >= kPreviewInterval; }
};

// The latents that denoising heads for: x - sigma v.
Latents Estimate(Latents latents, const LastPrediction& last) {
  for (size_t i = 0; i < latents.values.size(); ++i) {
    latents.values[i] -= static_cast<float>(last.next_sigma) * last.velocity[i];
  }
  return latents;
}

void PublishPreview(LiveJob& live, const LatentPreview& preview, const JobSettings& settings,
                    const Generation& generation, LastPrediction& last) {
  if (last.velocity.empty()) return;
  Latents latents = generation.latents();
  if (latents.values.size() != last.velocity.size()) return;
  const auto image = preview.Show(Estimate(std::move(latents), last), settings.width,
                                  settings.height, settings.num_frames);
  last.velocity.clear();
  last.shown_at = Clock::now();
  if (!image) return;
  live.Publish("preview", {{"image", generation.image()},
                           {"step", generation.step()},
                           {"data_url", "data:image/png;base64," +
                                            Base64(EncodeImage(ImageFormat::kPng, *image))}});
}

std::string Encode(const JobSettings& settings, const GenerateResult& so_far, int image,
                   const std::map<std::string, std::string>& text) {
  const auto i = static_cast<size_t>(image);
  if (settings.is_video) return EncodeVideo(VideoFormat::kMp4, so_far.videos[i], text);
  if (settings.format == "jpeg") {
    return EncodeImage(ImageFormat::kJpeg, so_far.images[i], text, {.quality = settings.quality});
  }
  if (settings.format == "webp") {
    return EncodeImage(ImageFormat::kWebp, so_far.images[i], text, {.quality = settings.quality});
  }
  return EncodeImage(ImageFormat::kPng, so_far.images[i], text);
}

// "No such file or directory" of "/results/x.png: cannot create: No such file or directory".
std::string ReasonOf(const Error& error) {
  const std::string message = error.what();
  const size_t colon = message.rfind(": ");
  return colon == std::string::npos ? "unknown" : message.substr(colon + 2);
}

std::string FileName(const Job& job, int image) {
  return fmt::format("{}-{}.{}", job.id, image + 1, job.settings.format);
}

}  // namespace

JobOutcome OutcomeOf(LiveJob::Stop reason) {
  if (reason == LiveJob::Stop::kCancel) {
    return {JobStatus::kCancelled, "cancelled", "the job was cancelled"};
  }
  return {JobStatus::kQueued, "", ""};
}

JobRunner::JobRunner(const ModelCatalog& catalog, std::filesystem::path output_folder, int threads,
                     Metrics& metrics)
    : catalog_(catalog),
      output_folder_(std::move(output_folder)),
      threads_(threads),
      metrics_(metrics) {
  for (const ServedModel& model : catalog_.models()) previews_[model.id()];
}

JobOutcome JobRunner::Run(LiveJob& live, const std::string& picture, bool is_alone) noexcept {
  const JobOutcome outcome = Try(live, picture, is_alone);
  if (outcome.status != JobStatus::kCompleted) {
    RemoveFiles(live.job());
    live.Edit([](Job& job) { job.files.clear(); });
  }
  return outcome;
}

JobOutcome JobRunner::Try(LiveJob& live, const std::string& picture, bool is_alone) {
  const JobSettings settings = live.job().settings;
  const ServedModel* model = catalog_.Served(settings.model);
  if (model == nullptr) {
    return {JobStatus::kFailed, "model_not_found",
            fmt::format("model: '{}' is not served any more", settings.model)};
  }
  try {
    const LoadedModels::Lease pipeline = catalog_.loaded().Borrow(
        model->source(), [&] { return live.stop() != LiveJob::Stop::kNone; }, is_alone);
    if (pipeline == nullptr) return OutcomeOf(live.stop());
    Generate(live, *pipeline, settings, picture);
    return {JobStatus::kCompleted, "", ""};
  } catch (const ApiError& error) {
    return {JobStatus::kFailed, error.code, error.what()};
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kCancelled && live.stop() != LiveJob::Stop::kNone) {
      return OutcomeOf(live.stop());
    }
    const ApiError answer = FromLibrary(error);
    return {JobStatus::kFailed, answer.code, answer.what(),
            error.code() == ErrorCode::kOutOfMemory};
  } catch (const std::bad_alloc&) {
    return {JobStatus::kFailed, "out_of_memory", "out of memory", true};
  } catch (const std::exception& error) {
    return {JobStatus::kFailed, "generation_failed", WithoutPaths(error.what())};
  }
}

void JobRunner::Generate(LiveJob& live, const Pipeline& pipeline, const JobSettings& settings,
                         const std::string& picture) {
  GenerateOptions options = OptionsOf(settings);
  if (settings.picture) {
    if (picture.empty()) {
      throw ApiError(500, "input_reference: the store does not have the picture any more",
                     "server_error", "picture_lost");
    }
    options.image = DecodeImage({reinterpret_cast<const uint8_t*>(picture.data()), picture.size()},
                                "input_reference");
  }
  options.threads = threads_;
  LatentPreview& preview = previews_.at(settings.model);
  LastPrediction last;
  options.on_prediction = [&](const StepPrediction& prediction) {
    if (!last.IsDue() || !preview.IsKnown()) return;
    last.velocity.assign(prediction.values.begin(), prediction.values.end());
    last.next_sigma = prediction.next_sigma;
  };
  options.on_result = [&](const GenerateResult& so_far, int image) {
    const auto i = static_cast<size_t>(image);
    const Image& first = settings.is_video ? so_far.videos[i].frames[0] : so_far.images[i];
    preview.Learn(so_far.latents[i], first, settings.num_frames);
    WriteResult(live, pipeline, options, so_far, image);
  };
  ProgressReporter reporter(live, metrics_);
  const auto start = Clock::now();
  Generation generation = pipeline.Start(options, std::ref(reporter));
  metrics_.AddSeconds("plan", SecondsSince(start));
  while (!generation.IsDone()) {
    while (generation.Step()) PublishPreview(live, preview, settings, generation, last);
    generation.Decode();
  }
  const GenerateResult& result = generation.result();
  live.Edit([&](Job& job) {
    job.seconds_total = result.seconds_total;
    job.seconds_encode = result.seconds_encode;
    job.seconds_denoise = result.seconds_denoise;
    job.seconds_decode = result.seconds_decode;
  });
  metrics_.AddSeconds("encode", result.seconds_encode);
  metrics_.AddSeconds("denoise", result.seconds_denoise);
  metrics_.AddSeconds("decode", result.seconds_decode);
}

void JobRunner::WriteResult(LiveJob& live, const Pipeline& pipeline, const GenerateOptions& options,
                            const GenerateResult& so_far, int image) {
  const auto start = Clock::now();
  const Job job = live.job();
  const std::string name = FileName(job, image);
  const auto text = pipeline.PngText(options, image);
  const std::string bytes = Encode(job.settings, so_far, image, text);
  try {
    WriteFileAtomically(output_folder_ / name, bytes);
  } catch (const Error& error) {
    throw ApiError(500, "the result could not be written: " + ReasonOf(error), "server_error",
                   "write_failed");
  }
  metrics_.AddSeconds("write", SecondsSince(start));
  live.Edit([&](Job& record) { record.files.push_back(name); });
  live.Publish("result", {{"image", image}, {"url", ContentPath(job.id, image)}});
}

void JobRunner::RemoveFiles(const Job& job) const noexcept {
  // All that it could have written: the record of an interrupted job does not name its files.
  for (int image = 0; image < job.settings.n; ++image) {
    std::error_code ignored;
    std::filesystem::remove(output_folder_ / FileName(job, image), ignored);
  }
}

}  // namespace tamias::serve
