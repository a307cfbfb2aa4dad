// The CLIP vision encoder: see the header.
#include "models/vision/clip_vision_encoder.h"

#include <fmt/format.h>

#include "io/json.h"
#include "models/config_fields.h"
#include "ops/check_tensor.h"
#include "tamias/device_memory.h"
#include "tamias/ops/copy.h"
#include "tamias/ops/elementwise.h"
#include "tamias/ops/norm.h"

namespace tamias {
namespace {

constexpr const char* kLayers = "encoder.layers";
constexpr int64_t kColours = 3;

}  // namespace

ClipVisionConfig ClipVisionConfig::FromJson(const JsonObject& file) {
  const JsonObject json = EncoderConfig(file, "vision_config", {"clip_vision_model"});
  ClipVisionConfig config;
  config.hidden_size = 768;
  config.intermediate_size = 3072;
  config.num_attention_heads = 12;
  config.Read(json);
  config.image_size = json.IntOr("image_size", config.image_size, {1, 4096});
  config.patch_size = json.IntOr("patch_size", config.patch_size, {1, config.image_size});
  const int64_t colours = json.IntOr("num_channels", kColours, {1, 1 << 10});
  if (colours != kColours) {
    json.FailField("num_channels", fmt::format("expected {}, found {}", kColours, colours));
  }
  if (config.image_size % config.patch_size != 0) {
    json.FailField("patch_size", "expected a divisor of image_size");
  }
  return config;
}

ClipVisionEncoder::ClipVisionEncoder(const ClipVisionConfig& config, const Weights& weights)
    : config_(config),
      weights_(weights.Has("vision_model.pre_layrnorm.weight") ? weights.Sub("vision_model")
                                                               : weights) {
  const int64_t d = config.hidden_size, p = config.patch_size;
  class_embedding_ = weights_.Get("embeddings.class_embedding", {d});
  patch_embedding_.weight = weights_.Get("embeddings.patch_embedding.weight", {d, kColours, p, p})
                                .Reshape({d, kColours * p * p});
  position_embedding_ = weights_.Get("embeddings.position_embedding.weight", {config.tokens(), d});
  pre_norm_ = NormLayer::Load(weights_, "pre_layrnorm", d);  // the checkpoints' spelling
  RefuseMoreLayers(weights_, kLayers, config.num_hidden_layers, "num_hidden_layers");
  for (int64_t i = 0; i + 1 < config.num_hidden_layers; ++i) {
    layers_.emplace_back(config, weights_.Sub(kLayers, i));
  }
}

void ClipVisionEncoder::Encode(Context& context, ConstTensorView pixels, TensorView hidden) const {
  const int64_t side = config_.image_size;
  CheckTensor("CLIP", "pixels", pixels, DType::kF32, {-1, side, side, kColours});
  CheckContiguous("CLIP", "pixels", pixels);
  CheckTensor("CLIP", "hidden", hidden, DType::kF32,
              {pixels.dim(0), config_.tokens(), config_.hidden_size});
  Workspace::Scope scope(context.workspace());
  DeviceMirror states(context, hidden);
  EmbedPatches(context, OnDevice(context, pixels), states.device());
  LayerNorm(context, states.device(), pre_norm_.weight, pre_norm_.bias, config_.layer_norm_eps,
            states.device());
  for (const ClipEncoderLayer& layer : layers_) {
    layer.Forward(context, /*causal=*/false, states.device());
  }
  states.Download(context);
}

void ClipVisionEncoder::EmbedPatches(Context& context, ConstTensorView pixels,
                                     TensorView hidden) const {
  Workspace::Scope scope(context.workspace());
  const int64_t batch = pixels.dim(0), p = config_.patch_size, grid = config_.image_size / p;
  const TensorView positions =
      context.workspace().Allocate(position_embedding_.shape(), DType::kF32);
  const TensorView patches =
      context.workspace().Allocate({batch, grid, grid, kColours, p, p}, DType::kF32);
  Copy(context, pixels.SplitAxis(2, grid, p).SplitAxis(1, grid, p).Permute({0, 1, 3, 5, 2, 4}),
       patches);
  patch_embedding_(context, patches.Reshape({batch, grid * grid, kColours * p * p}),
                   hidden.Slice(1, 1, config_.tokens()));
  Convert(context, position_embedding_, positions);
  for (int64_t item = 0; item < batch; ++item) {
    const TensorView tokens = hidden.Select(0, item);
    Convert(context, class_embedding_, tokens.Select(0, 0));
    Add(context, tokens, positions, tokens);
  }
}

}  // namespace tamias
