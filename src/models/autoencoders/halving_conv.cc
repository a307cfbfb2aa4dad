// Convolution with stride 2 by quarters: see the header.
#include "models/autoencoders/halving_conv.h"

#include "ops/conv2d.h"
#include "ops/copy.h"

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

}  // namespace

HalvingConv HalvingConv::Load(const Weights& weights, const std::string& name, int64_t in,
                              int64_t out) {
  const ConstTensorView whole = weights.Get(name + ".weight", {out, in, kKernel, kKernel});
  HalvingConv conv;
  conv.bias_ = weights.Get(name + ".bias", {out});
  for (int64_t row = 0; row < 2; ++row) {
    for (int64_t column = 0; column < 2; ++column) {
      Tensor quarter({out, in, 2 - row, 2 - column}, whole.dtype());
      for (int64_t i = row; i < kKernel; i += 2) {
        for (int64_t j = column; j < kKernel; j += 2) {
          CopyOnHost(whole.Select(3, j).Select(2, i),
                     quarter.view().Select(3, j / 2).Select(2, i / 2));
        }
      }
      conv.quarters_[static_cast<size_t>(2 * row + column)] = std::move(quarter);
    }
  }
  return conv;
}

void HalvingConv::Forward(FramePass& pass, const TensorView& frame,
                          const TensorView& output) const {
  const FramePass::Scope scope(pass);
  Context& context = pass.context();
  const TensorView part = pass.Allocate({1, frame.dim(1) / 2, frame.dim(2) / 2, frame.dim(3)});
  for (size_t index = 0; index < quarters_.size(); ++index) {
    const ConstTensorView weight = quarters_[index].view();
    const Padding padding = {.bottom = weight.dim(2) - 1, .right = weight.dim(3) - 1};
    pass.Run([&] {
      Copy(context, Quarter(frame, static_cast<int64_t>(index / 2), static_cast<int64_t>(index % 2)),
           part);
      Conv2d(context, part, weight, index == 0 ? bias_ : ConstTensorView(),
             {.padding = padding, .accumulate = index > 0}, output);
    });
  }
}

}  // namespace tamias
