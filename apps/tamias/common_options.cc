#include "common_options.h"

#include <cstdio>
#include <string>

#include "base/check.h"

namespace tamias::cli {

void AddSizeOptions(CLI::App& command, CommonOptions& options) {
  GenerateOptions& generate = options.generate;
  command.add_option("--model", options.model, "Checkpoint folder in diffusers' layout")
      ->required()
      ->type_name("DIR");
  command.add_option("--width", generate.width, "Width in pixels")->type_name("W");
  command.add_option("--height", generate.height, "Height in pixels")->type_name("H");
  command
      .add_option("--frames", generate.num_frames,
                  "Frames of a film: one more than a multiple of 4 (Mochi: of 6)")
      ->type_name("N");
  command.add_option("--fps", generate.fps, "Frames per second of a film")->type_name("F");
}

void AddModelOptions(CLI::App& command, CommonOptions& options) {
  GenerateOptions& generate = options.generate;
  AddSizeOptions(command, options);
  command.add_option("--steps", generate.steps, "Denoising steps")->type_name("N");
  command
      .add_option("--true-cfg-scale", generate.true_cfg_scale,
                  "Classifier-free guidance; above 1 the model runs twice a step")
      ->type_name("S");
  command
      .add_option("--guidance-scale", generate.guidance_scale,
                  "Embedded guidance of guidance-distilled models (FLUX.1-dev, HunyuanVideo)")
      ->type_name("G");
  command
      .add_option("--max-sequence-length", generate.max_sequence_length,
                  "Text tokens that the sequence encoder may use")
      ->type_name("L");
  command.add_option("--num-images", generate.num_images, "Pictures or films, one after another")
      ->type_name("K");
  command
      .add_option(
          "--sparsity", generate.sparsity,
          "auto: the profile that fits the model; off: dense; a profile's name; a YAML file")
      ->type_name("auto|off|PROFILE|FILE.yml")
      ->capture_default_str();
  command
      .add_option("--set", generate.overrides,
                  "Change one key of the profile, e.g. attn.top_keys=0.1; may be repeated")
      ->type_name("KEY=VALUE")
      ->expected(1)
      ->take_all();
  command
      .add_option_function<std::string>(
          "--state-dtype",
          [&generate](const std::string& dtype) {
            generate.overrides.push_back("attn.cache_dtype=" + dtype);
          },
          "How attention output caches are stored; short for --set attn.cache_dtype=...")
      ->type_name("f32|bf16");
  AddMachineOptions(command, options);
}

void AddMachineOptions(CLI::App& command, CommonOptions& options) {
  GenerateOptions& generate = options.generate;
  command
      .add_option(
          "--max-memory", generate.max_memory_bytes,
          "Where the plan needs more than this, the sparsity state goes to a temporary file "
          "in $TMPDIR")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false))
      ->type_name("BYTES|8GiB");
  command
      .add_option("--device", generate.device,
                  "Where the transformer runs; text encoders and decoder run on the CPU")
      ->type_name("cpu|cuda[:N]")
      ->capture_default_str();
  command
      .add_option("--threads", generate.threads, "Threads; 0: one per CPU that the process may use")
      ->type_name("T")
      ->capture_default_str();
  command.add_flag("--json", options.json, "Print the result as JSON on standard output");
}

void AddPromptOptions(CLI::App& command, CommonOptions& options) {
  GenerateOptions& generate = options.generate;
  command.add_option("--prompt", generate.prompt, "What the picture or film shows")
      ->required()
      ->type_name("TEXT");
  command
      .add_option("--negative-prompt", generate.negative_prompt,
                  "What it must not show (with --true-cfg-scale above 1)")
      ->type_name("TEXT");
  command
      .add_option("--image", options.image,
                  "PNG or JPEG that the film begins with, for image-to-video models")
      ->type_name("FILE");
  command
      .add_option("--seed", generate.seed,
                  "Seed of the noise; the same picture as diffusers' CPU seed")
      ->type_name("S")
      ->capture_default_str();
  command.add_flag("--quiet", options.quiet, "No progress and no warnings");
}

void ReadInputImage(const Pipeline& pipeline, CommonOptions& options) {
  if (!options.image.empty()) {
    options.generate.image = ReadImage(options.image);
  } else if (pipeline.info().needs_image) {
    Fail(ErrorCode::kInvalidArgument, "image: {} makes films of a picture: --image FILE is missing",
         pipeline.info().family);
  }
}

int NumFrames(const Pipeline& pipeline, const GenerateOptions& options) {
  if (!pipeline.info().makes_videos) return 1;
  return options.num_frames.value_or(std::stoi(pipeline.info().defaults.at("num_frames")));
}

void PrintWarnings(const Pipeline& pipeline, const CommonOptions& options) {
  if (options.quiet) return;
  for (const std::string& warning : pipeline.Warnings(options.generate)) {
    std::fprintf(stderr, "tamias: note: %s\n", warning.c_str());
  }
}

}  // namespace tamias::cli
