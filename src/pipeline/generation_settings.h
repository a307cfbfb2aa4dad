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
  int num_frames = 1;      // above 1: the family makes films
  int frame_multiple = 1;  // num_frames is one more than a multiple of this
  double fps = 0;
  int size_multiple = 16;               // pixels
  int max_sequence_length_limit = 512;  // text tokens
  bool needs_image = false;             // films begin with a picture
  bool has_experts = false;             // a transformer for high noise and one for low
  bool makes_videos() const { return num_frames > 1; }
};

// "512x512 pixels", "512x512 pixels and 33 frames"
std::string SizeText(const GenerationSettings& settings);

// Throws kInvalidArgument naming the option, what it may be and what it was.
GenerationSettings ResolveSettings(const GenerateOptions& options, const ModelDefaults& model,
                                   const FamilyDefaults& family);

}  // namespace tamias
