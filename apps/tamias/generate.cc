// `tamias generate`: prompt to PNG, JPEG or WebP, films to MP4 or animated WebP.
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
  ResultPaths paths;
};

void Run(Options& options) {
  const Pipeline pipeline(options.common.model, options.common.load);
  ReadInputImage(pipeline, options.common);
  GenerateOptions& generate = options.common.generate;
  pipeline.PlanMemory(generate);  // refuses bad options before paths are looked at
  ResultFiles files(pipeline, options.common, options.paths,
                    static_cast<size_t>(generate.num_images), pipeline.PngText(generate, 0));
  PrintWarnings(pipeline, options.common);

  ProgressPrinter progress("", options.common.quiet);
  generate.on_latents = [&](const GenerateResult& so_far, int image) {
    files.KeepLatents(so_far, image);
  };
  generate.on_result = [&](const GenerateResult& so_far, int image) {
    progress.EndLine();
    files.Write(so_far, image, pipeline.PngText(generate, image));
  };
  const GenerateResult result =
      files.Guard([&] { return pipeline.Generate(generate, std::ref(progress)); });
  files.Finish(result);
  if (files.log() != nullptr) {
    fmt::print(files.log(),
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
  AddResultOptions(*command, options->paths);
  command
      ->add_option("--save-latents", options->paths.save_latents,
                   "Also write the final latents, before they are decoded: see tamias decode")
      ->type_name("FILE.safetensors");
  command->footer(kExamples);
  command->callback([options] { Run(*options); });
}

}  // namespace tamias::cli
