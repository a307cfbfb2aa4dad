// Parts of the decoders that run frame by frame: see the header.
#include "models/autoencoders/frame_blocks.h"

#include "tamias/ops/activation.h"
#include "tamias/ops/norm.h"

namespace tamias {

void FrameNorm::operator()(FramePass& pass, const TensorView& frame, bool silu,
                           const TensorView& output) const {
  Context& context = pass.context();
  pass.Run([&] {
    if (groups > 0) {
      GroupNorm(context, frame, groups, layer.weight, layer.bias, epsilon, silu, output);
    } else {
      RmsNorm(context, frame, layer.weight, epsilon, output);
      if (silu) Activate(context, Activation::kSilu, output);
    }
  });
}

void ApplyToPixels(FramePass& pass, const LinearLayer& layer, ConstTensorView input,
                   bool accumulate, const TensorView& output) {
  pass.Run([&] { layer(pass.context(), input, output, {.accumulate = accumulate}); });
}

void NormConvolve(FramePass& pass, const FrameNorm& norm, const CausalConv& conv,
                  const TensorView& frame, bool accumulate, const TensorView& output) {
  const TensorView normed = pass.TakeFrame(frame.shape());
  norm(pass, frame, /*silu=*/true, normed);
  pass.Convolve(conv, normed, accumulate, {output});
}

TensorView FrameResidualBlock::Forward(FramePass& pass, const TensorView& frame) const {
  Shape shape = frame.shape();
  shape[3] = conv1.weight.dim(0);
  const TensorView output = shortcut ? pass.Allocate(shape) : frame;
  const FramePass::Scope scope(pass);
  const TensorView hidden = pass.Allocate(shape);
  NormConvolve(pass, norm1, conv1, frame, /*accumulate=*/false, hidden);
  if (shortcut) ApplyToPixels(pass, *shortcut, frame, /*accumulate=*/false, output);
  NormConvolve(pass, norm2, conv2, hidden, /*accumulate=*/true, output);
  return output;
}

}  // namespace tamias
