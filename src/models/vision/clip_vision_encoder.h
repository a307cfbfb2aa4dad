// The CLIP vision encoder (transformers' CLIPVisionModel; Radford et al., 2103.00020) up to the
// state before its last block, which image-to-video models take: patches of a square picture and a
// class token, learned positions, a LayerNorm and pre-norm transformer blocks. Symbols: B batch, S
// image_size, p patch_size, K = (S / p)^2 + 1 tokens, d = hidden_size.
#pragma once

#include <cstdint>
#include <vector>

#include "models/clip_encoder_layer.h"
#include "models/linear_layer.h"
#include "tamias/context.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

struct ClipVisionConfig : ClipEncoderConfig {
  int64_t image_size = 224;
  int64_t patch_size = 32;

  int64_t patches() const { return (image_size / patch_size) * (image_size / patch_size); }
  int64_t tokens() const { return patches() + 1; }
  // file: config.json of a CLIPVisionModel or of a whole CLIPModel.
  static ClipVisionConfig FromJson(const JsonObject& file);
};

class ClipVisionEncoder {
 public:
  // Tensor names with or without the prefix "vision_model.". The last block and what comes behind
  // it are not read.
  ClipVisionEncoder(const ClipVisionConfig& config, const Weights& weights);

  // pixels [B, S, S, 3] f32, contiguous, normalised (models/vision/clip_image_processor.h) ->
  // hidden [B, K, d] f32, the class token first: transformers' hidden_states[-2]. Both in memory of
  // the host, the weights on the context's device.
  void Encode(Context& context, ConstTensorView pixels, TensorView hidden) const;

  const ClipVisionConfig& config() const { return config_; }

 private:
  void EmbedPatches(Context& context, ConstTensorView pixels, TensorView hidden) const;

  ClipVisionConfig config_;
  Weights weights_;                     // keeps the files mapped
  ConstTensorView class_embedding_;     // [d]
  LinearLayer patch_embedding_;         // [d, 3 p p], no bias
  ConstTensorView position_embedding_;  // [K, d]
  NormLayer pre_norm_;
  std::vector<ClipEncoderLayer> layers_;  // all but the last
};

}  // namespace tamias
