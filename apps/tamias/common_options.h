// The options that `generate`, `compare`, `tune`, `decode` and `inspect` share.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "command_files.h"
#include "tamias/pipeline.h"

namespace tamias::cli {

struct CommonOptions {
  std::string model;
  LoadOptions load;
  GenerateOptions generate;
  std::string image;        // file that generate.image is read from; empty: none
  std::string latents;      // what `decode` reads; empty: none
  std::string prompt_file;  // what `tune` reads; empty: none
  bool quiet = false;
  bool json = false;
};

// --model, --variant, size and frames: the result's shape.
void AddSizeOptions(CLI::App& command, CommonOptions& options);
// --device, --dtype and --weight-dtype alone.
void AddDeviceOption(CLI::App& command, std::string& device);
void AddDTypeOption(CLI::App& command, std::string& dtype);
void AddWeightDTypeOption(CLI::App& command, std::string& weight_dtype);
// --max-memory, --max-gpu-memory, --device, --threads and --json.
void AddMachineOptions(CLI::App& command, CommonOptions& options);
// Both, and steps, guidance, sparsity, --set: what decides plan and speed.
void AddModelOptions(CLI::App& command, CommonOptions& options);
// --fps, for commands that write or show it.
void AddFpsOption(CLI::App& command, CommonOptions& options);
// --prompt and what else decides the result, --quiet and --json.
void AddPromptOptions(CLI::App& command, CommonOptions& options);

// What a command with these options reads.
CommandFiles InputsOf(const CommonOptions& options);

// Reads --image into the options. Throws when the file is no picture, or the model needs one and
// none is given.
void ReadInputImage(const Pipeline& pipeline, CommonOptions& options);

// Frames of one result: 1 for a picture.
int NumFrames(const Pipeline& pipeline, const GenerateOptions& options);

// The settings in force, as pictures carry them: "width", "height", "steps", "seed", ...
nlohmann::ordered_json SettingsOf(const Pipeline& pipeline, const GenerateOptions& options);

// Prints the settings that have no effect here, unless quiet.
void PrintWarnings(const Pipeline& pipeline, const CommonOptions& options);

}  // namespace tamias::cli
