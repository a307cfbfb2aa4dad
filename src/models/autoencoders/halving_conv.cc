// Convolution with stride 2 by quarters: pixels in even rows meet only the kernel's rows 0 and 2,
// those in odd rows row 1; columns likewise: four convolutions with stride 1 over a quarter of the
// pixels each, with no tap computed in vain.
#include "models/autoencoders/halving_conv.h"

#include "ops/conv2d.h"
#include "tamias/ops/copy.h"

namespace tamias {
namespace {

constexpr int64_t kKernel = 3;

// The pixels of even (0) or odd (1) rows and columns, a strided [1, H / 2, W / 2, C].
ConstTensorView Quarter(const TensorView& frame, int64_t row, int64_t column) {
  return frame.SplitAxis(2, frame.dim(2) / 2, 2)
      .SplitAxis(1, frame.dim(1) / 2, 2)
      .Select(4, column)
      .Select(2, row);
}

// The taps that they meet, a strided [O, C, kh, kw].
ConstTensorView TapsOf(const ConstTensorView& weight, int64_t row, int64_t column) {
  const ConstTensorView first = weight.Slice(2, row, kKernel).Slice(3, column, kKernel);
  return ConstTensorView(
      first.raw(), first.dtype(), {weight.dim(0), weight.dim(1), 2 - row, 2 - column},
      {weight.stride(0), weight.stride(1), 2 * weight.stride(2), 2 * weight.stride(3)},
      first.device());
}

}  // namespace

HalvingConv HalvingConv::Load(const Weights& weights, const std::string& name, int64_t in,
                              int64_t out) {
  HalvingConv conv;
  conv.weight_ = weights.Get(name + ".weight", {out, in, kKernel, kKernel});
  conv.bias_ = weights.Get(name + ".bias", {out});
  return conv;
}

void HalvingConv::Forward(FramePass& pass, const TensorView& frame,
                          const TensorView& output) const {
  const FramePass::Scope scope(pass);
  Context& context = pass.context();
  const TensorView part = pass.Allocate({1, frame.dim(1) / 2, frame.dim(2) / 2, frame.dim(3)});
  for (int64_t row = 0; row < 2; ++row) {
    for (int64_t column = 0; column < 2; ++column) {
      const FramePass::Scope taps_scope(pass);
      const ConstTensorView taps = TapsOf(weight_, row, column);
      const TensorView weight = context.workspace().Allocate(taps.shape(), taps.dtype());
      const Padding padding = {.bottom = weight.dim(2) - 1, .right = weight.dim(3) - 1};
      const bool is_first = row == 0 && column == 0;
      pass.Run([&] {
        Copy(context, taps, weight);
        Copy(context, Quarter(frame, row, column), part);
        Conv2d(context, part, weight, is_first ? bias_ : ConstTensorView(),
               {.padding = padding, .accumulate = !is_first}, output);
      });
    }
  }
}

}  // namespace tamias
