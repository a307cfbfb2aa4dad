// Reordered rows of a linear layer: see the header.
#include "models/transformers/patch_projection.h"

namespace tamias {
namespace {

// [places * channels, ...] -> [channels * places, ...].
Tensor ChannelsFirst(ConstTensorView rows, int64_t channels, int64_t places) {
  const int64_t width = rows.NumElements() / rows.dim(0);
  Tensor reordered(rows.shape(), rows.dtype());
  CopyOnHost(rows.Reshape({places, channels, width}).Permute({1, 0, 2}),
             reordered.view().Reshape({channels, places, width}));
  return reordered;
}

}  // namespace

PatchProjection PatchProjection::Load(const Weights& weights, const std::string& name, int64_t in,
                                      int64_t channels, int64_t places) {
  const LinearLayer layer = LinearLayer::Load(weights, name, in, channels * places);
  PatchProjection projection;
  projection.weight_ = ChannelsFirst(layer.weight, channels, places);
  projection.bias_ = ChannelsFirst(layer.bias, channels, places);
  return projection;
}

}  // namespace tamias
