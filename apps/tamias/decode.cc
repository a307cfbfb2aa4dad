// `tamias decode`: finished latents to PNG, JPEG, WebP or MP4, without the steps that made them.
#include <fmt/format.h>

#include <functional>
#include <memory>

#include "commands.h"
#include "common_options.h"
#include "progress.h"
#include "result_files.h"

namespace tamias::cli {
namespace {

constexpr char kExamples[] = R"(Examples:
  tamias decode --model models/demo-flux --latents heart.png.latents.safetensors --output heart.png
  tamias decode --model Wan2.1-T2V-1.3B --latents chipmunk.safetensors --output chipmunk.mp4 \
      --frames-dir chipmunk-frames
  tamias decode --model FLUX.1-dev --latents from-diffusers.safetensors --width 1280 --height 768

The latents are those of `tamias generate --save-latents FILE`, those that it keeps when decoding
fails, or packed ones of others: a safetensors file with the tensor "latents" (or a single one),
[images, tokens, channels]. Files of others do not say their size: give --width and --height, of
films --frames.)";

struct Options {
  CommonOptions common;
  ResultPaths paths;
};

void Run(Options& options) {
  const Pipeline pipeline(options.common.model, options.common.load);
  const SavedLatents latents = ReadLatents(options.common.latents);
  GenerateOptions& generate = options.common.generate;
  generate = WithSavedSize(latents, generate, pipeline.info());
  ResultFiles files(pipeline, options.common, options.paths, latents.latents.size(),
                    pipeline.PngText(latents, 0));

  ProgressPrinter progress("", options.common.quiet);
  generate.on_result = [&](const GenerateResult& so_far, int image) {
    progress.EndLine();
    files.Write(so_far, image, pipeline.PngText(latents, image));
  };
  const GenerateResult result =
      files.Guard([&] { return pipeline.Decode(latents, generate, std::ref(progress)); });
  files.Finish(result);
  if (files.log() != nullptr) {
    fmt::print(files.log(), "{:.2f} s: {:.2f} decoding\n", result.seconds_total,
               result.seconds_decode);
  }
}

}  // namespace

void AddDecodeCommand(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("decode", "Decode finished latents to pictures or films, without steps");
  auto options = std::make_shared<Options>();
  command
      ->add_option("--latents", options->common.latents,
                   "Latents of generate --save-latents, or others")
      ->required()
      ->type_name("FILE.safetensors");
  AddSizeOptions(*command, options->common);
  AddFpsOption(*command, options->common);
  AddResultOptions(*command, options->paths);
  AddDTypeOption(*command, options->common.generate.dtype);
  AddMachineOptions(*command, options->common);
  command->add_flag("--quiet", options->common.quiet, "No progress and no notes");
  command->footer(kExamples);
  command->callback([options] { Run(*options); });
}

}  // namespace tamias::cli
