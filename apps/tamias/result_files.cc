// Paths, checks, writing and the report of what was written: see the header.
#include "result_files.h"

#include <fmt/format.h>

#include <cstdio>

#include "base/check.h"
#include "io/atomic_file.h"
#include "output_files.h"

namespace tamias::cli {
namespace {

// The file to write; throws when it cannot hold what the model makes.
std::filesystem::path OutputPath(const Pipeline& pipeline, const GenerateOptions& options,
                                 const ResultPaths& paths) {
  const int frames = NumFrames(pipeline, options);
  const std::string& output = paths.output;
  if (!pipeline.info().makes_videos) {
    const auto refuse = [](const char* name, const std::string& value) {
      Fail(ErrorCode::kInvalidArgument, "{}: '{}': this model makes pictures, not films", name,
           value);
    };
    if (IsVideoPath(output)) refuse("output", output);
    if (!paths.frames_folder.empty()) refuse("frames-dir", paths.frames_folder);
  }
  if (output.empty()) return frames > 1 ? "tamias.mp4" : "tamias.png";
  if (frames > 1 && !IsVideoPath(output)) {
    Fail(
        ErrorCode::kInvalidArgument,
        "output: '{}': a film of {} frames needs .mp4 or .webp (--frames-dir DIR writes its frames "
        "as PNG, --frames 1 makes a picture)",
        output, frames);
  }
  return output;
}

}  // namespace

void LatentsKeeper::Keep(const Pipeline& pipeline, const GenerateOptions& options,
                         const GenerateResult& so_far, int image,
                         const std::filesystem::path& output) {
  std::error_code error;
  if (std::filesystem::exists(output, error) && !std::filesystem::is_regular_file(output, error)) {
    return;  // beside a device or a pipe there is no place for files
  }
  std::filesystem::path path = output;
  path += ".latents.safetensors";
  try {
    WriteLatents(path, {so_far.latents[static_cast<size_t>(image)]},
                 pipeline.LatentsText(options, image));
    path_ = path;
  } catch (const Error&) {
  }
}

void LatentsKeeper::Release() {
  std::error_code error;
  if (!path_.empty()) std::filesystem::remove(path_, error);
  path_.clear();
}

void LatentsKeeper::Tell(const std::string& model) const {
  if (path_.empty()) return;
  std::fprintf(stderr,
               "tamias: note: the finished latents are kept: `tamias decode --model '%s' --latents "
               "'%s'` goes on from them\n",
               model.c_str(), path_.c_str());
}

ResultFiles::ResultFiles(const Pipeline& pipeline, const CommonOptions& options,
                         const ResultPaths& paths, size_t count)
    : pipeline_(pipeline),
      options_(options),
      paths_(paths),
      output_(OutputPath(pipeline, options.generate, paths)),
      count_(count) {
  CheckWritable(output_);
  if (!paths_.frames_folder.empty()) {
    CreateFolder(paths_.frames_folder);
    CheckWritable(std::filesystem::path(paths_.frames_folder) / "frame-0001.png");
  }
  CheckWritable(paths_.save_latents);
  CheckWritable(paths_.report);
}

void ResultFiles::KeepLatents(const GenerateResult& so_far, int image) {
  if (!paths_.save_latents.empty()) {
    WriteLatents(paths_.save_latents, so_far.latents, pipeline_.LatentsText(options_.generate));
  }
  keeper_.Keep(pipeline_, options_.generate, so_far, image,
               NumberedPath(output_, static_cast<size_t>(image), count_));
}

void ResultFiles::Write(const GenerateResult& so_far, int image,
                        const std::map<std::string, std::string>& text) {
  const auto i = static_cast<size_t>(image);
  const bool is_silent = options_.quiet || options_.json;
  const auto path = NumberedPath(output_, i, count_);
  if (so_far.videos.empty()) {
    WritePng(path, so_far.images[i], text);
  } else if (!IsVideoPath(path)) {
    WritePng(path, so_far.videos[i].frames.front(), text);
  } else {
    WriteVideo(path, so_far.videos[i], text);
  }
  if (!is_silent) fmt::print("wrote {}\n", path.string());
  nlohmann::ordered_json entry = {{"image", image}, {"output", path.string()}};
  if (!paths_.frames_folder.empty()) {
    std::filesystem::path folder = paths_.frames_folder;
    if (count_ > 1) folder /= fmt::format("film-{}", i + 1);
    CreateFolder(folder);
    WriteFrames(folder, so_far.videos[i], text);
    if (!is_silent) fmt::print("wrote {}/: its frames\n", folder.string());
    entry["frames_dir"] = folder.string();
  }
  std::fflush(stdout);
  written_.push_back(std::move(entry));
  last_report_ = so_far.report_json;
  keeper_.Release();
}

void ResultFiles::TellFailure(const std::string& error) noexcept {
  try {
    keeper_.Tell(options_.model);
    if (!written_.empty()) WriteReport(last_report_, error);
  } catch (const std::exception&) {
  }
}

void ResultFiles::Finish(const GenerateResult& result) { WriteReport(result.report_json, ""); }

void ResultFiles::WriteReport(const std::string& report_json, const std::string& error) const {
  auto report = nlohmann::ordered_json::parse(report_json);
  report["written"] = written_;
  if (!error.empty()) report["error"] = error;
  const std::string text = report.dump(2) + "\n";
  if (!paths_.report.empty()) WriteFileAtomically(paths_.report, text);
  if (options_.json) fmt::print("{}", text);
}

}  // namespace tamias::cli
