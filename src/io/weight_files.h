// Which files of a component's folder hold its weights, chosen as the library of the component
// chooses: of FILE.safetensors and shards listed by FILE.safetensors.index.json diffusers takes the
// shards, transformers the single file. FILE is "diffusion_pytorch_model" or "model". Variants
// carry their name: FILE.fp16.safetensors, FILE.safetensors.index.fp16.json (of older versions
// FILE.safetensors.fp16.index.json).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tamias/weights.h"

namespace tamias {

struct WeightFiles {
  std::vector<std::filesystem::path>
      files;            // safetensors; of a name in several the last one counts
  std::string variant;  // of these files; empty: plain
};

// A variant that the folder does not have gives the plain files, as in diffusers. Where none is
// asked for and there are no plain files, the only variant is taken. Throws kNotFound when there
// are no weights, or none that the request decides for, and kInvalidFile for a broken index.
WeightFiles FindWeightFiles(const std::filesystem::path& folder, const WeightRequest& request);

// The variants that a folder has weights of, sorted; "" for plain ones. Throws kIo.
std::vector<std::string> WeightVariants(const std::filesystem::path& folder);

}  // namespace tamias
