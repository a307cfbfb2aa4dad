// `tamias generate`: prompt to PNG, MP4 or animated WebP.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "base/check.h"
#include "commands.h"
#include "common_options.h"
#include "io/atomic_file.h"
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
  tamias generate --model models/demo-video --prompt "a red star moving left at the top on a grey background" \
      --output star.mp4
  tamias generate --model Wan2.1-T2V-1.3B --prompt "a chipmunk runs over moss" --frames 81 --fps 16 \
      --width 832 --height 480 --output chipmunk.webp --frames-dir chipmunk-frames
  tamias generate --model Wan2.1-I2V-14B-480P --image chipmunk.jpg --prompt "it turns its head" --output film.mp4)";

struct Options {
  CommonOptions common;
  std::string output;  // empty: tamias.png, or tamias.mp4 for a film
  std::string frames_folder;
  std::string save_latents;
  std::string report;
};

// The file to write; throws when it cannot hold what the model makes.
std::filesystem::path OutputPath(const Pipeline& pipeline, const Options& options) {
  const int frames = NumFrames(pipeline, options.common.generate);
  const std::string& output = options.output;
  if (!pipeline.info().makes_videos) {
    const auto refuse = [](const char* name, const std::string& value) {
      Fail(ErrorCode::kInvalidArgument, "{}: '{}': this model makes pictures, not films", name,
           value);
    };
    if (IsVideoPath(output)) refuse("output", output);
    if (!options.frames_folder.empty()) refuse("frames-dir", options.frames_folder);
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

// Writes every picture or film and says so.
void WriteResult(const Options& options, const Pipeline& pipeline,
                 const std::filesystem::path& output, const GenerateResult& result) {
  const bool is_silent = options.common.quiet || options.common.json;
  const size_t count = std::max(result.images.size(), result.videos.size());
  for (size_t i = 0; i < count; ++i) {
    const auto path = NumberedPath(output, i, count);
    const auto text = pipeline.PngText(options.common.generate, static_cast<int>(i));
    if (result.videos.empty()) {
      WritePng(path, result.images[i], text);
    } else if (!IsVideoPath(path)) {
      WritePng(path, result.videos[i].frames.front(), text);
    } else {
      WriteVideo(path, result.videos[i], text);
    }
    if (!is_silent) fmt::print("wrote {}\n", path.string());
    if (options.frames_folder.empty()) continue;
    std::filesystem::path folder = options.frames_folder;
    if (count > 1) folder /= fmt::format("film-{}", i + 1);
    CreateFolder(folder);
    WriteFrames(folder, result.videos[i], text);
    if (!is_silent) fmt::print("wrote {}/: its frames\n", folder.string());
  }
}

void Run(Options& options) {
  const Pipeline pipeline(options.common.model, options.common.load);
  ReadInputImage(pipeline, options.common);
  const std::filesystem::path output = OutputPath(pipeline, options);
  CheckWritable(output);
  if (!options.frames_folder.empty()) {
    CreateFolder(options.frames_folder);
    CheckWritable(std::filesystem::path(options.frames_folder) / "frame-0001.png");
  }
  CheckWritable(options.save_latents);
  CheckWritable(options.report);
  PrintWarnings(pipeline, options.common);

  ProgressPrinter progress("", options.common.quiet);
  const GenerateResult result = pipeline.Generate(options.common.generate, std::ref(progress));

  WriteResult(options, pipeline, output, result);
  if (!options.save_latents.empty()) WriteLatents(options.save_latents, result.latents);
  if (!options.report.empty()) WriteFileAtomically(options.report, result.report_json + "\n");
  if (options.common.json) {
    fmt::print("{}\n", result.report_json);
  } else if (!options.common.quiet) {
    fmt::print(
        "{:.2f} s: {:.2f} prompt, {:.2f} denoising, {:.2f} decoding; "
        "attention sparsity {:.1f} %, MLP sparsity {:.1f} %\n",
        result.seconds_total, result.seconds_encode, result.seconds_denoise, result.seconds_decode,
        100 * result.attention_sparsity, 100 * result.mlp_sparsity);
  }
}

}  // namespace

void AddGenerateCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("generate", "Generate pictures or films from a prompt");
  auto options = std::make_shared<Options>();
  AddModelOptions(*command, options->common);
  AddPromptOptions(*command, options->common);
  command
      ->add_option(
          "--output", options->output,
          "PNG file, or .mp4 or .webp for a film; -1, -2, ... is added for several; default "
          "tamias.png or tamias.mp4")
      ->type_name("FILE");
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
