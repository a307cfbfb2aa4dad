// What a picture goes through before the CLIP vision encoder (transformers' CLIPImageProcessor):
// its shorter side is brought to a size, the middle cut out, bytes scaled and normalised by colour.
#pragma once

#include <array>
#include <cstdint>

#include "io/resize_image.h"
#include "tamias/image.h"
#include "tamias/tensor.h"

namespace tamias {

class JsonObject;

struct ClipImageProcessor {
  int64_t shortest_edge = 224;  // pixels, at least crop_size
  int64_t crop_size = 224;      // pixels, of both sides
  ResizeFilter filter = ResizeFilter::kBicubic;
  double rescale_factor = 1.0 / 255;
  std::array<double, 3> image_mean = {0.48145466, 0.4578275, 0.40821073};
  std::array<double, 3> image_std = {0.26862954, 0.26130258, 0.27577711};

  // Of preprocessor_config.json. Throws kInvalidFile, or kUnsupported where a step is left out or
  // done in another way, naming the field.
  static ClipImageProcessor FromJson(const JsonObject& json);

  // [1, crop_size, crop_size, 3] f32. The picture's sides are at least 1.
  Tensor operator()(const Image& image) const;
};

}  // namespace tamias
