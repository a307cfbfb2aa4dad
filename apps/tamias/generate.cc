// `tamias generate`: prompt to PNG.
#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "commands.h"
#include "common_options.h"
#include "io/atomic_file.h"
#include "progress.h"

namespace tamias::cli {
namespace {

constexpr char kExamples[] = R"(Examples:
  tamias generate --model models/demo-flux --prompt "a large red star at the center on a wooden beige background"
  tamias generate --model FLUX.1-dev --prompt "a chipmunk in a library" --width 1280 --height 768 \
      --steps 50 --seed 7 --output chipmunk.png --report chipmunk.json
  tamias generate --model models/demo-flux --prompt "a small blue heart at the top on a grey background" \
      --sparsity demo --set attn.top_keys=0.2 --json)";

struct Options {
  CommonOptions common;
  std::string output = "tamias.png";
  std::string save_latents;
  std::string report;
};

// picture.png for one picture; picture-1.png, picture-2.png, ... for several.
std::filesystem::path NumberedPath(const std::filesystem::path& path, size_t index, size_t count) {
  if (count == 1) return path;
  std::filesystem::path numbered = path;
  return numbered.replace_filename(
      fmt::format("{}-{}{}", path.stem().string(), index + 1, path.extension().string()));
}

// An hour of work must not end at a path that cannot be written.
void CheckWritable(const std::string& path) {
  if (!path.empty()) AtomicFile file(path);  // creates and removes the temporary file
}

void Run(const Options& options) {
  CheckWritable(options.output);
  CheckWritable(options.save_latents);
  CheckWritable(options.report);
  const Pipeline pipeline(options.common.model);
  PrintWarnings(pipeline, options.common);

  ProgressPrinter progress("", options.common.quiet);
  const GenerateResult result = pipeline.Generate(options.common.generate, std::ref(progress));

  for (size_t i = 0; i < result.images.size(); ++i) {
    const auto path = NumberedPath(options.output, i, result.images.size());
    WritePng(path, result.images[i],
             pipeline.PngText(options.common.generate, static_cast<int>(i)));
    if (!options.common.quiet && !options.common.json) fmt::print("wrote {}\n", path.string());
  }
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
  CLI::App* command = app.add_subcommand("generate", "Generate pictures from a prompt");
  auto options = std::make_shared<Options>();
  AddModelOptions(*command, options->common);
  AddPromptOptions(*command, options->common);
  command->add_option("--output", options->output, "PNG file; -1, -2, ... is added for several")
      ->type_name("FILE.png")
      ->capture_default_str();
  command->add_option("--save-latents", options->save_latents, "Also write the final latents")
      ->type_name("FILE.safetensors");
  command->add_option("--report", options->report, "Also write what happened as JSON")
      ->type_name("FILE.json");
  command->footer(kExamples);
  command->callback([options] { Run(*options); });
}

}  // namespace tamias::cli
