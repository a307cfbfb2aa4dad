// Decoding frame by frame: see the header.
#include "models/autoencoders/frame_pass.h"

#include "base/check.h"

namespace tamias {
namespace {

// [1, H, W, C] as a film of one frame.
TensorView AsFilm(const TensorView& frame) {
  return frame.Reshape({1, 1, frame.dim(1), frame.dim(2), frame.dim(3)});
}

}  // namespace

CausalConv CausalConv::Load(const Weights& weights, const std::string& name, int64_t in,
                            int64_t out, int64_t frames, int64_t side) {
  return {weights.Get(name + ".weight", {out, in, frames, side, side}),
          weights.Get(name + ".bias", {out})};
}

FramePass::FramePass(Context& context, const FramePass& counted, bool runs_operations)
    : context_(context),
      padding_(counted.padding_),
      counts_(false),
      runs_operations_(runs_operations) {
  for (const Pool& planned : counted.pools_) {
    Pool& pool = pools_.emplace_back(Pool{planned.shape, planned.count, {}});
    for (int64_t i = 0; i < pool.count; ++i) {
      pool.free.push_back(context.workspace().Allocate(pool.shape, context.activation_dtype()));
    }
  }
}

TensorView FramePass::Allocate(const Shape& shape, DType dtype) {
  if (!counts_) return context_.workspace().Allocate(shape, dtype);
  return TensorView::WithoutMemory(shape, dtype, context_.device());
}

FramePass::Pool& FramePass::PoolOf(const Shape& shape) {
  const auto pool = std::ranges::find(pools_, shape, &Pool::shape);
  return pool != pools_.end() ? *pool : pools_.emplace_back(Pool{shape, 0, {}});
}

TensorView FramePass::TakeFrame(const Shape& shape) {
  Pool& pool = PoolOf(shape);
  if (pool.free.empty()) {
    TAMIAS_CHECK(counts_);
    ++pool.count;
    return TensorView::WithoutMemory(shape, context_.activation_dtype(), context_.device());
  }
  const TensorView frame = pool.free.back();
  pool.free.pop_back();
  return frame;
}

// One output's sum over the frames, the last of which is the current one.
void FramePass::Accumulate(const CausalConv& conv, const std::vector<TensorView>& frames,
                           int64_t channel, bool accumulate, const TensorView& output) {
  const int64_t side = conv.weight.dim(3) / 2, kernel = conv.weight.dim(2);
  const int64_t missing = kernel - static_cast<int64_t>(frames.size());
  const ConstTensorView weight = conv.weight.Slice(0, channel, channel + output.dim(3));
  Conv3dOptions options = {.padding = {0, 0, side, side, side, side, padding_},
                           .accumulate = accumulate};
  ConstTensorView bias = conv.bias.Slice(0, channel, channel + output.dim(3));
  Run([&] {
    // Zeros before the film add nothing.
    for (int64_t k = padding_ == PaddingMode::kZeros ? missing : 0; k < kernel; ++k) {
      const TensorView& frame = frames[static_cast<size_t>(std::max<int64_t>(0, k - missing))];
      Conv3d(context_, AsFilm(frame), weight.Slice(2, k, k + 1), bias, options, AsFilm(output));
      options.accumulate = true;
      bias = {};
    }
  });
}

void FramePass::Convolve(const CausalConv& conv, const TensorView& frame, bool accumulate,
                         std::initializer_list<TensorView> outputs) {
  std::vector<TensorView>& frames = history_[&conv];
  frames.push_back(frame);
  int64_t channel = 0;
  for (const TensorView& output : outputs) {
    Accumulate(conv, frames, channel, accumulate, output);
    channel += output.dim(3);
  }
  if (static_cast<int64_t>(frames.size()) == conv.weight.dim(2)) {
    PoolOf(frame.shape()).free.push_back(frames.front());
    frames.erase(frames.begin());
  }
}

}  // namespace tamias
