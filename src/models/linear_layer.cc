// Reads linear and norm layers from a checkpoint.
#include "models/linear_layer.h"

namespace tamias {

LinearLayer LinearLayer::Load(const Weights& weights, const std::string& name, int64_t in,
                              int64_t out, bool has_bias) {
  LinearLayer layer;
  layer.weight = weights.Get(name + ".weight", {out, in});
  if (has_bias) layer.bias = weights.Get(name + ".bias", {out});
  return layer;
}

NormLayer NormLayer::Load(const Weights& weights, const std::string& name, int64_t dim,
                          bool has_bias) {
  NormLayer layer;
  layer.weight = weights.Get(name + ".weight", {dim});
  if (has_bias) layer.bias = weights.Get(name + ".bias", {dim});
  return layer;
}

}  // namespace tamias
