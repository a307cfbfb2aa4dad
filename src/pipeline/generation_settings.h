// The options of a generation with every default filled in and every value checked.
#pragma once

#include <cstdint>
#include <string>

#include "tamias/pipeline.h"

#include "pipeline/model_folder.h"

namespace tamias {

// What a family assumes where neither the caller nor the model says otherwise, and what it allows.
struct FamilyDefaults {
  int width = 1024;
  int height = 1024;
  int steps = 28;
  int max_sequence_length = 512;
  double true_cfg_scale = 1;
  double guidance_scale = 3.5;
  int size_multiple = 16;               // pixels
  int max_sequence_length_limit = 512;  // text tokens
};

struct GenerationSettings {
  int width = 0;
  int height = 0;
  int steps = 0;
  int max_sequence_length = 0;
  double true_cfg_scale = 1;
  double guidance_scale = 0;
  bool use_true_cfg() const { return true_cfg_scale > 1; }
};

// Throws kInvalidArgument naming the option, what it may be and what it was.
GenerationSettings ResolveSettings(const GenerateOptions& options, const ModelDefaults& model,
                                   const FamilyDefaults& family);

}  // namespace tamias
