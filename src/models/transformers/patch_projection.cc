// Reordered rows of a linear layer: see the header. They are few, and copied at each call.
#include "models/transformers/patch_projection.h"

#include "tamias/ops/copy.h"

namespace tamias {
namespace {

// [places * channels, ...] -> [channels * places, ...], in the caller's workspace scope.
ConstTensorView ChannelsFirst(Context& context, ConstTensorView rows, int64_t channels,
                              int64_t places) {
  const int64_t width = rows.NumElements() / rows.dim(0);
  const TensorView reordered = context.workspace().Allocate(rows.shape(), rows.dtype());
  Copy(context, rows.Reshape({places, channels, width}).Permute({1, 0, 2}),
       reordered.Reshape({channels, places, width}));
  return reordered;
}

}  // namespace

PatchProjection PatchProjection::Load(const Weights& weights, const std::string& name, int64_t in,
                                      int64_t channels, int64_t places) {
  PatchProjection projection;
  projection.layer_ = LinearLayer::Load(weights, name, in, channels * places);
  projection.channels_ = channels;
  projection.places_ = places;
  return projection;
}

void PatchProjection::operator()(Context& context, ConstTensorView input, TensorView output) const {
  Workspace::Scope scope(context.workspace());
  Linear(context, input, ChannelsFirst(context, layer_.weight, channels_, places_),
         ChannelsFirst(context, layer_.bias, channels_, places_), output);
}

}  // namespace tamias
