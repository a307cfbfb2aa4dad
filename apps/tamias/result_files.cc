// Checks of all paths first, then one file after another as results come.
#include "result_files.h"

#include <fmt/format.h>
#include <unistd.h>

#include "fail.h"
#include "number_options.h"
#include "output_files.h"
#include "tamias/files.h"

namespace tamias::cli {

void AddResultOptions(CLI::App& command, ResultPaths& paths) {
  command
      .add_option(
          "--output", paths.output,
          "The picture: a name that ends in .png, .jpg, .jpeg or .webp; the film: .mp4 or .webp; "
          "-1, -2, ... is added for several; - is standard output; default tamias.png or "
          "tamias.mp4")
      ->type_name("FILE");
  AddNumber(command, "--quality", paths.quality, "Of JPEG and WebP pictures, 1 to 100; default 90")
      ->type_name("Q");
  command
      .add_option("--frames-dir", paths.frames_folder,
                  "Also write a film's frames: frame-0001.png, ...")
      ->type_name("DIR");
  command.add_option("--report", paths.report, "Also write what happened as JSON")
      ->type_name("FILE.json");
}

void LatentsKeeper::Keep(const Pipeline& pipeline, const GenerateOptions& options,
                         const GenerateResult& so_far, int image,
                         const std::filesystem::path& output) {
  if (IsWrittenDirectly(output)) return;  // beside a device or a pipe there is no place for files
  for (const std::filesystem::path& place : {output, SpillFolder() / output.filename()}) {
    const std::filesystem::path path = FreePath(place, ".latents", ".safetensors");
    try {
      WriteUninterrupted(path, [&] {
        WriteLatents(path, {so_far.latents[static_cast<size_t>(image)]},
                     pipeline.LatentsText(options, image));
        path_ = path;
      });
      return;
    } catch (const Error& failure) {
      if (failure.code() == ErrorCode::kCancelled) throw;
    }
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
                         const ResultPaths& paths, size_t count,
                         const std::map<std::string, std::string>& text)
    : pipeline_(pipeline), options_(options), paths_(paths), count_(count), output_(MakeOutput()) {
  log_ = UsesStandardOutput() ? stderr : stdout;
  if (options_.quiet || options_.json) log_ = nullptr;
  CheckApart();
  CheckOutputs(text);
}

ResultFiles::Output ResultFiles::MakeOutput() const {
  const int frames = NumFrames(pipeline_, options_.generate);
  Output output{OutputPath(paths_.output), std::nullopt, {}};
  if (output.path.empty()) output.path = frames > 1 ? "tamias.mp4" : "tamias.png";
  const bool is_mp4 = VideoFormatOf(output.path) == VideoFormat::kMp4;
  if (!pipeline_.info().makes_videos) {
    const auto refuse = [](const char* name, const std::string& value) {
      Fail(ErrorCode::kInvalidArgument, "{}: '{}': this model makes pictures, not films", name,
           value);
    };
    if (is_mp4) refuse("output", paths_.output);
    if (!paths_.frames_folder.empty()) refuse("frames-dir", paths_.frames_folder);
  }
  const bool is_plain_device =
      !output.path.has_extension() && IsWrittenDirectly(output.path);  // gets an MP4
  if (frames > 1 && !IsVideoPath(output.path) && !is_plain_device) {
    Fail(
        ErrorCode::kInvalidArgument,
        "output: '{}': a film of {} frames needs .mp4 or .webp (--frames-dir DIR writes its frames "
        "as PNG, --frames 1 makes a picture)",
        paths_.output, frames);
  }
  if (frames == 1 && !is_mp4) output.picture = PictureFormat("output", output.path);
  if (paths_.quality) {
    if (!output.picture || *output.picture == ImageFormat::kPng) {
      Fail(ErrorCode::kInvalidArgument,
           "quality: has an effect on .jpg and .webp pictures only, found output '{}'",
           output.path.string());
    }
    output.image_options.quality = *paths_.quality;
  }
  return output;
}

bool ResultFiles::UsesStandardOutput() const {
  int users = options_.json ? 1 : 0;
  bool is_file = false;
  for (const std::filesystem::path& path :
       {output_.path, OutputPath(paths_.save_latents), OutputPath(paths_.report)}) {
    if (!IsStandardOutput(path)) continue;
    ++users;
    is_file = true;
  }
  if (users > 1) {
    Fail(ErrorCode::kInvalidArgument,
         "output: standard output takes one of the picture or film, --save-latents, --report and "
         "--json, found {}",
         users);
  }
  if (is_file && isatty(STDOUT_FILENO) != 0 && !IsStandardOutput(OutputPath(paths_.report))) {
    Fail(ErrorCode::kInvalidArgument, "output: standard output is a terminal: redirect it");
  }
  return is_file;
}

void ResultFiles::CheckApart() const {
  CommandFiles files = InputsOf(options_);
  const auto num_frames = static_cast<size_t>(NumFrames(pipeline_, options_.generate));
  for (size_t i = 0; i < count_; ++i) {
    files.AddOutput("--output", NumberedPath(output_.path, i, count_));
    if (paths_.frames_folder.empty()) continue;
    const auto folder = FramesFolder(paths_.frames_folder, i, count_);
    for (size_t frame = 0; frame < num_frames; ++frame) {
      files.AddOutput("--frames-dir", FramePath(folder, frame));
    }
  }
  files.AddOutput("--save-latents", OutputPath(paths_.save_latents));
  files.AddOutput("--report", OutputPath(paths_.report));
  if (options_.json) files.AddOutput("--json", OutputPath("-"));
}

void ResultFiles::CheckOutputs(const std::map<std::string, std::string>& text) const {
  const GenerationSettings settings = pipeline_.Settings(options_.generate);
  const int width = settings.width, height = settings.height;
  if (output_.picture) {
    CheckImageFile(*output_.picture, width, height, text, output_.image_options);
  } else {
    CheckVideoSize(width, height);
  }
  CheckWritableNumbered(output_.path, count_);
  if (!paths_.frames_folder.empty()) {
    CheckImageFile(ImageFormat::kPng, width, height, text, {});
    CheckFramesFolder(paths_.frames_folder,
                      static_cast<size_t>(NumFrames(pipeline_, options_.generate)), count_);
  }
  CheckWritable(OutputPath(paths_.save_latents));
  CheckWritable(OutputPath(paths_.report));
}

void ResultFiles::KeepLatents(const GenerateResult& so_far, int image) {
  // A pipe takes the file once: with all latents.
  const std::filesystem::path path = OutputPath(paths_.save_latents);
  const bool is_last = static_cast<size_t>(image) + 1 == count_;
  if (!path.empty() && (is_last || !IsWrittenDirectly(path))) {
    latents_error_.reset();
    try {
      WriteUninterrupted(path, [&] {
        WriteLatents(path, so_far.latents, pipeline_.LatentsText(options_.generate));
      });
    } catch (const Error& error) {
      if (error.code() == ErrorCode::kCancelled) throw;
      latents_error_ = error;
    }
  }
  keeper_.Keep(pipeline_, options_.generate, so_far, image,
               NumberedPath(output_.path, static_cast<size_t>(image), count_));
}

void ResultFiles::Write(const GenerateResult& so_far, int image,
                        const std::map<std::string, std::string>& text) {
  const auto i = static_cast<size_t>(image);
  const auto path = NumberedPath(output_.path, i, count_);
  if (output_.picture) {
    const Image& picture = so_far.videos.empty() ? so_far.images[i] : so_far.videos[i].frames[0];
    WritePicture(path, *output_.picture, picture, text, output_.image_options);
  } else {
    WriteFilm(path, so_far.videos[i], text);
  }
  if (log_ != nullptr) fmt::print(log_, "wrote {}\n", path.string());
  nlohmann::ordered_json entry = {{"image", image}, {"output", path.string()}};
  if (!paths_.frames_folder.empty()) {
    const auto folder = FramesFolder(paths_.frames_folder, i, count_);
    CreateFolder(folder);
    WriteFrames(folder, so_far.videos[i], text);
    if (log_ != nullptr) fmt::print(log_, "wrote {}/: its frames\n", folder.string());
    entry["frames_dir"] = folder.string();
  }
  if (log_ != nullptr) std::fflush(log_);
  written_.push_back(std::move(entry));
  last_report_ = so_far.report_json;
  keeper_.Release();
}

void ResultFiles::TellFailure(const std::string& error) noexcept {
  try {
    keeper_.Tell(options_.model);
    if (written_.empty()) return;
    const std::string text = ReportText(last_report_, error);
    const std::filesystem::path path = OutputPath(paths_.report);
    if (!path.empty() && !IsWrittenDirectly(path)) WriteFileAtomically(path, text);
    if (options_.json) fmt::print("{}", text);
  } catch (const std::exception&) {
  }
}

void ResultFiles::Finish(const GenerateResult& result) {
  const std::string text =
      ReportText(result.report_json, latents_error_ ? latents_error_->what() : "");
  const std::filesystem::path path = OutputPath(paths_.report);
  if (!path.empty()) WriteOutput(path, [&] { return text; });
  if (options_.json) fmt::print("{}", text);
  if (latents_error_) throw Error(*latents_error_);
}

std::string ResultFiles::ReportText(const std::string& report_json,
                                    const std::string& error) const {
  auto report = nlohmann::ordered_json::parse(report_json);
  report["written"] = written_;
  if (!error.empty()) report["error"] = error;
  return report.dump(2) + "\n";
}

}  // namespace tamias::cli
