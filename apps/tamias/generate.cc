// `tamias generate`: prompt to PNG, JPEG or WebP, films to MP4 or animated WebP.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>

#include "base/check.h"
#include "commands.h"
#include "common_options.h"
#include "io/atomic_file.h"
#include "io/video.h"
#include "number_options.h"
#include "output_files.h"
#include "progress.h"

namespace tamias::cli {
namespace {

constexpr char kExamples[] = R"(Examples:
  tamias generate --model models/demo-flux --prompt "a large red star at the center on a wooden beige background"
  tamias generate --model FLUX.1-dev --prompt "a chipmunk in a library" --width 1280 --height 768 \
      --steps 50 --seed 7 --output chipmunk.png --report chipmunk.json
  tamias generate --model models/demo-flux --prompt "a small blue heart at the top on a grey background" \
      --sparsity demo --set attn.top_keys=0.2 --json
  tamias generate --model models/demo-flux --prompt "a small green ring at the top on a white background" \
      --num-images 4 --output ring.jpg --quality 95
  tamias generate --model models/demo-video --prompt "a red star moving left at the top on a grey background" \
      --output star.mp4
  tamias generate --model Wan2.1-T2V-1.3B --prompt "a chipmunk runs over moss" --frames 81 --fps 16 \
      --width 832 --height 480 --output chipmunk.webp --frames-dir chipmunk-frames
  tamias generate --model Wan2.1-I2V-14B-480P --image chipmunk.jpg --prompt "it turns its head" --output film.mp4)";

struct Options {
  CommonOptions common;
  std::string output;          // empty: tamias.png, or tamias.mp4 for a film
  std::optional<int> quality;  // of JPEG and WebP pictures
  std::string frames_folder;
  std::string save_latents;
  std::string report;
};

// Where the results go and as what.
struct Output {
  std::filesystem::path path;
  std::optional<ImageFormat> picture;  // of a picture; nothing: a film
  ImageOptions image_options;
};

// Throws when the file cannot hold what the model makes.
Output OutputOf(const Pipeline& pipeline, const Options& options) {
  const int frames = NumFrames(pipeline, options.common.generate);
  Output output{OutputPath(options.output), std::nullopt, {}};
  if (output.path.empty()) output.path = frames > 1 ? "tamias.mp4" : "tamias.png";
  const bool is_mp4 = LowerExtension(output.path) == ".mp4";
  if (!pipeline.info().makes_videos) {
    const auto refuse = [](const char* name, const std::string& value) {
      Fail(ErrorCode::kInvalidArgument, "{}: '{}': this model makes pictures, not films", name,
           value);
    };
    if (is_mp4) refuse("output", options.output);
    if (!options.frames_folder.empty()) refuse("frames-dir", options.frames_folder);
  }
  const bool is_plain_device =
      !output.path.has_extension() && IsWrittenDirectly(output.path);  // gets an MP4
  if (frames > 1 && !IsVideoPath(output.path) && !is_plain_device) {
    Fail(
        ErrorCode::kInvalidArgument,
        "output: '{}': a film of {} frames needs .mp4 or .webp (--frames-dir DIR writes its frames "
        "as PNG, --frames 1 makes a picture)",
        options.output, frames);
  }
  if (frames == 1 && !is_mp4) output.picture = PictureFormat("output", output.path);
  if (options.quality) {
    if (!output.picture || *output.picture == ImageFormat::kPng) {
      Fail(ErrorCode::kInvalidArgument,
           "quality: has an effect on .jpg and .webp pictures only, found output '{}'",
           output.path.string());
    }
    output.image_options.quality = *options.quality;
  }
  return output;
}

// Whether a file goes to standard output, where then nothing else may go.
bool UsesStandardOutput(const Options& options, const Output& output) {
  int users = options.common.json ? 1 : 0;
  bool is_file = false;
  for (const std::filesystem::path& path :
       {output.path, OutputPath(options.save_latents), OutputPath(options.report)}) {
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
  if (is_file && isatty(STDOUT_FILENO) != 0 && !IsStandardOutput(OutputPath(options.report))) {
    Fail(ErrorCode::kInvalidArgument, "output: standard output is a terminal: redirect it");
  }
  return is_file;
}

// Everything that could go wrong when results are written, before there are any.
void CheckOutputs(const Pipeline& pipeline, const Options& options, const Output& output) {
  const GenerateOptions& generate = options.common.generate;
  const auto settings = SettingsOf(pipeline, generate);
  const int width = settings.at("width"), height = settings.at("height");
  const auto count = static_cast<size_t>(generate.num_images);
  if (output.picture) {
    CheckImageFile(*output.picture, width, height, pipeline.PngText(generate, 0),
                   output.image_options);
  } else {
    CheckVideoSize(width, height);
  }
  CheckWritableNumbered(output.path, count);
  if (!options.frames_folder.empty()) {
    CheckImageFile(ImageFormat::kPng, width, height, pipeline.PngText(generate, 0), {});
    CheckFramesFolder(options.frames_folder, static_cast<size_t>(NumFrames(pipeline, generate)),
                      count);
  }
  CheckWritable(OutputPath(options.save_latents));
  CheckWritable(OutputPath(options.report));
}

// Writes every picture or film and says so on `log`; null: says nothing.
void WriteResult(const Options& options, const Pipeline& pipeline, const Output& output,
                 const GenerateResult& result, std::FILE* log) {
  const size_t count = std::max(result.images.size(), result.videos.size());
  for (size_t i = 0; i < count; ++i) {
    const auto path = NumberedPath(output.path, i, count);
    const auto text = pipeline.PngText(options.common.generate, static_cast<int>(i));
    if (output.picture) {
      const Image& image = result.videos.empty() ? result.images[i] : result.videos[i].frames[0];
      WritePicture(path, *output.picture, image, text, output.image_options);
    } else {
      WriteFilm(path, result.videos[i], text);
    }
    if (log != nullptr) fmt::print(log, "wrote {}\n", path.string());
    if (options.frames_folder.empty()) continue;
    const auto folder = FramesFolder(options.frames_folder, i, count);
    CreateFolder(folder);
    WriteFrames(folder, result.videos[i], text);
    if (log != nullptr) fmt::print(log, "wrote {}/: its frames\n", folder.string());
  }
}

void Run(Options& options) {
  const Pipeline pipeline(options.common.model);
  ReadInputImage(pipeline, options.common);
  const Output output = OutputOf(pipeline, options);
  std::FILE* log = UsesStandardOutput(options, output) ? stderr : stdout;
  if (options.common.quiet || options.common.json) log = nullptr;
  CheckOutputs(pipeline, options, output);
  PrintWarnings(pipeline, options.common);

  GenerateResult result;
  {
    ProgressPrinter progress("", options.common.quiet);
    result = pipeline.Generate(options.common.generate, std::ref(progress));
  }
  WriteResult(options, pipeline, output, result, log);
  if (!options.save_latents.empty()) {
    const std::filesystem::path path = OutputPath(options.save_latents);
    WriteUninterrupted(path, [&] { WriteLatents(path, result.latents); });
  }
  if (!options.report.empty()) {
    WriteOutput(OutputPath(options.report), [&] { return result.report_json + "\n"; });
  }
  if (options.common.json) {
    fmt::print("{}\n", result.report_json);
  } else if (log != nullptr) {
    fmt::print(log,
               "{:.2f} s: {:.2f} prompt, {:.2f} denoising, {:.2f} decoding; "
               "attention sparsity {:.1f} %, MLP sparsity {:.1f} %\n",
               result.seconds_total, result.seconds_encode, result.seconds_denoise,
               result.seconds_decode, 100 * result.attention_sparsity, 100 * result.mlp_sparsity);
  }
}

}  // namespace

void AddGenerateCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("generate", "Generate pictures or films from a prompt");
  auto options = std::make_shared<Options>();
  AddModelOptions(*command, options->common);
  AddPromptOptions(*command, options->common);
  AddFpsOption(*command, options->common);
  command
      ->add_option(
          "--output", options->output,
          "The picture: a name that ends in .png, .jpg, .jpeg or .webp; the film: .mp4 or .webp; "
          "-1, -2, ... is added for several; - is standard output; default tamias.png or "
          "tamias.mp4")
      ->type_name("FILE");
  AddNumber(*command, "--quality", options->quality,
            "Of JPEG and WebP pictures, 1 to 100; default 90")
      ->type_name("Q");
  command
      ->add_option("--frames-dir", options->frames_folder,
                   "Also write a film's frames: frame-0001.png, ...")
      ->type_name("DIR");
  command->add_option("--save-latents", options->save_latents, "Also write the final latents")
      ->type_name("FILE.safetensors");
  command->add_option("--report", options->report, "Also write what happened as JSON")
      ->type_name("FILE.json");
  command->footer(kExamples);
  command->callback([options] { Run(*options); });
}

}  // namespace tamias::cli
