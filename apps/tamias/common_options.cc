// The options that `generate`, `compare`, `tune` and `inspect` share, their help, and what those
// commands do with them: the picture that a film begins with, the number of frames, notes.
#include "common_options.h"

#include <cstdio>
#include <string>

#include "fail.h"
#include "number_options.h"

namespace tamias::cli {
namespace {

// FILE or FILE:SCALE.
Lora LoraFrom(const std::string& option, const std::string& text, int transformer) {
  const size_t colon = text.rfind(':');
  if (colon == text.npos || text.ends_with(".safetensors")) return {text, 1, transformer};
  if (colon == 0) {
    Fail(ErrorCode::kInvalidArgument, "{}: '{}': expected FILE[:SCALE]", option, text);
  }
  return {text.substr(0, colon), NumberFrom<double>(option, text.substr(colon + 1)), transformer};
}

void AddLoras(CLI::App& command, CommonOptions& options, const std::string& name, int transformer,
              const std::string& description) {
  command
      .add_option_function<std::vector<std::string>>(
          name,
          [&options, name, transformer](const std::vector<std::string>& texts) {
            for (const std::string& text : texts) {
              options.load.loras.push_back(LoraFrom(name, text, transformer));
            }
          },
          description)
      ->type_name("FILE[:SCALE]")
      ->expected(1)
      ->take_all();
}

}  // namespace

void AddSizeOptions(CLI::App& command, CommonOptions& options) {
  GenerateOptions& generate = options.generate;
  command.add_option("--model", options.model, "Checkpoint folder in diffusers' layout")
      ->required()
      ->type_name("DIR");
  command
      .add_option("--variant", options.load.variant,
                  "Variant of the weights, e.g. fp16 for *.fp16.safetensors; plain where a "
                  "component has none")
      ->type_name("NAME");
  AddNumber(command, "--width", generate.width, "Width in pixels")->type_name("W");
  AddNumber(command, "--height", generate.height, "Height in pixels")->type_name("H");
  AddNumber(command, "--frames", generate.num_frames,
            "Frames of a film: one more than a multiple of 4 (Mochi: of 6)")
      ->type_name("N");
}

void AddModelOptions(CLI::App& command, CommonOptions& options) {
  GenerateOptions& generate = options.generate;
  AddSizeOptions(command, options);
  AddLoras(command, options, "--lora", 0,
           "Merge a LoRA into the weights, times a scale (default 1); may be repeated");
  AddLoras(command, options, "--lora-2", 1, "The same for the second transformer of Wan 2.2");
  AddNumber(command, "--steps", generate.steps, "Denoising steps")->type_name("N");
  AddNumber(command, "--true-cfg-scale", generate.true_cfg_scale,
            "Classifier-free guidance; above 1 the model runs twice a step")
      ->type_name("S");
  AddNumber(command, "--true-cfg-scale-2", generate.true_cfg_scale_2,
            "The same for the second transformer of Wan 2.2; else that of the first")
      ->type_name("S");
  AddNumber(command, "--guidance-scale", generate.guidance_scale,
            "Embedded guidance of guidance-distilled models (FLUX.1-dev, HunyuanVideo)")
      ->type_name("G");
  AddNumber(command, "--max-sequence-length", generate.max_sequence_length,
            "Text tokens that the sequence encoder may use")
      ->type_name("L");
  AddNumber(command, "--num-images", generate.num_images, "Pictures or films, one after another")
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
  AddDTypeOption(command, generate.dtype);
  AddWeightDTypeOption(command, generate.weight_dtype);
  AddMachineOptions(command, options);
}

void AddDeviceOption(CLI::App& command, std::string& device) {
  command.add_option("--device", device, "Where text encoders, transformer and decoder run")
      ->type_name("cpu|cuda[:N]|cuda:N,cuda:M,...")
      ->capture_default_str();
}

void AddDTypeOption(CLI::App& command, std::string& dtype) {
  command
      .add_option("--dtype", dtype,
                  "What transformer and decoder compute with; auto: bf16 where the transformer's "
                  "weights are and the processor multiplies bf16")
      ->type_name("auto|f32|bf16")
      ->capture_default_str();
}

void AddWeightDTypeOption(CLI::App& command, std::string& weight_dtype) {
  command
      .add_option(
          "--weight-dtype", weight_dtype,
          "fp8_e4m3: the matrices of the transformer's blocks take 8 bits a weight, half of "
          "bf16; auto: as --dtype")
      ->type_name("auto|fp8_e4m3")
      ->capture_default_str();
}

void AddMachineOptions(CLI::App& command, CommonOptions& options) {
  GenerateOptions& generate = options.generate;
  AddBytes(command, "--max-memory", generate.max_memory_bytes,
           "Where the plan needs more than this, the sparsity state goes to a temporary file "
           "in $TMPDIR; 0: it never does")
      ->type_name("BYTES|8GiB");
  AddBytes(
      command, "--max-gpu-memory", generate.max_gpu_memory_bytes,
      "What may be taken of the GPU's memory; 0: what is free on it. Where the plan needs more, "
      "models, state and blocks stay in the host's memory but for their turn")
      ->type_name("BYTES|16GiB");
  AddDeviceOption(command, generate.device);
  AddNumber(command, "--threads", generate.threads,
            "Threads; 0: one per CPU that the process may use")
      ->type_name("T")
      ->default_str("0");
  command.add_flag("--json", options.json, "Print the result as JSON on standard output");
}

void AddFpsOption(CLI::App& command, CommonOptions& options) {
  AddNumber(command, "--fps", options.generate.fps, "Frames per second of a film")->type_name("F");
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
                  "PNG, JPEG or WebP that the film begins with, for image-to-video models")
      ->type_name("FILE");
  AddNumber(command, "--seed", generate.seed,
            "Seed of the noise, 0 to 2^64 - 1; the same picture as diffusers' CPU seed")
      ->type_name("S")
      ->default_str("0");
  command.add_flag("--quiet", options.quiet,
                   "No progress, and no notes but of where finished work lies after a failure");
}

CommandFiles InputsOf(const CommonOptions& options) {
  CommandFiles files;
  files.AddInput("--model", options.model);
  files.AddInput("--image", options.image);
  files.AddInput("--latents", options.latents);
  files.AddInput("--prompt-file", options.prompt_file);
  files.AddInput("--sparsity", options.generate.sparsity);  // which may be a file's name
  for (const Lora& lora : options.load.loras) {
    files.AddInput(lora.transformer == 0 ? "--lora" : "--lora-2", lora.file);
  }
  return files;
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
  return pipeline.Settings(options).num_frames;
}

nlohmann::ordered_json SettingsOf(const Pipeline& pipeline, const GenerateOptions& options) {
  return nlohmann::ordered_json::parse(pipeline.PngText(options, 0).at("tamias"));
}

void PrintWarnings(const Pipeline& pipeline, const CommonOptions& options) {
  if (options.quiet) return;
  for (const std::string& warning : pipeline.Warnings(options.generate)) {
    std::fprintf(stderr, "tamias: note: %s\n", warning.c_str());
  }
}

}  // namespace tamias::cli
