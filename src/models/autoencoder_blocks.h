// The parts of the autoencoder's decoder, channels-last, and the pass that runs them: pictures live
// in three buffers that the blocks hand to each other, and a dry pass over the same code predicts
// their sizes. Method: see models/autoencoder_kl.h.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/tensor.h"
#include "io/checkpoint.h"
#include "models/linear_layer.h"
#include "ops/conv2d.h"

namespace tamias {

struct ConvLayer {
  ConstTensorView weight;  // [out, in, k, k], k odd
  ConstTensorView bias;    // [out]

  // Zeros on each side that keep the picture's size.
  Padding padding() const {
    const int64_t side = weight.dim(2) / 2;
    return {side, side, side, side};
  }
  static ConvLayer Load(const Weights& weights, const std::string& name, int64_t in, int64_t out,
                        int64_t kernel);
};

// A picture within a pass: [height, width, channels] in one of the buffers.
struct Picture {
  size_t buffer = 0;
  int64_t height = 0;
  int64_t width = 0;
  int64_t channels = 0;
  Shape shape() const { return {1, height, width, channels}; }
};

// What a pass takes from the workspace, in bytes.
struct DecoderMemory {
  std::array<size_t, 3> buffers{};
  size_t scratch = 0;  // of the greediest operation
  size_t total() const { return buffers[0] + buffers[1] + buffers[2] + scratch; }
};

class DecoderPass {
 public:
  // A dry pass: nothing is computed, memory() is what a real one needs. Scratch is left out on
  // request: asking the kernels takes memory and time in proportion to the picture's width, so it
  // is not for absurd sizes.
  DecoderPass(Context& context, int64_t norm_num_groups, bool plans_scratch)
      : context_(context), groups_(norm_num_groups), plans_scratch_(plans_scratch) {}
  // A real pass; its buffers live until the caller's workspace scope ends.
  DecoderPass(Context& context, int64_t norm_num_groups, const DecoderMemory& memory);

  Context& context() { return context_; }
  bool is_dry() const { return is_dry_; }
  const DecoderMemory& memory() const { return memory_; }

  // A picture in a free buffer, and the return of that buffer.
  Picture Allocate(int64_t height, int64_t width, int64_t channels);
  void Free(const Picture& picture) { in_use_[picture.buffer] = false; }
  // [1, height, width, channels]; empty in a dry pass.
  TensorView View(const Picture& picture) const;
  // An operation needs bytes() of workspace.
  template <typename Bytes>
  void NeedScratch(const Bytes& bytes) {
    if (plans_scratch_) memory_.scratch = std::max(memory_.scratch, bytes());
  }

  // output = convolution of the input.
  void Convolve(const ConvLayer& layer, const Shape& shape, ConstTensorView input,
                TensorView output);
  // output (+)= convolution(SiLU(group norm(input))).
  void NormConvolve(const NormLayer& norm, const ConvLayer& layer, const Picture& input,
                    bool accumulate, TensorView output);
  // output = group norm(input).
  void Norm(const NormLayer& norm, const Picture& input, const Picture& output);

 private:
  Context& context_;
  int64_t groups_;
  bool is_dry_ = true;
  bool plans_scratch_ = false;
  std::array<TensorView, 3> buffers_;
  DecoderMemory memory_;  // so far
  std::array<bool, 3> in_use_{};
};

// y = shortcut(x) + conv2(SiLU(norm2(conv1(SiLU(norm1(x)))))).
class ResidualBlock {
 public:
  ResidualBlock(const Weights& weights, int64_t in, int64_t out);
  // Takes the input's buffer over.
  Picture Forward(DecoderPass& pass, const Picture& input) const;

 private:
  NormLayer norm1_, norm2_;
  ConvLayer conv1_, conv2_;
  std::optional<ConvLayer> shortcut_;  // 1 x 1, where the number of channels changes
};

// x += out(attention(q, k, v of norm(x))) over all pixels, one head.
class PixelAttention {
 public:
  PixelAttention(const Weights& weights, int64_t channels);
  void Forward(DecoderPass& pass, const Picture& picture) const;

 private:
  void ForwardPixels(DecoderPass& pass, const Picture& picture, const Picture& normed,
                     const Picture& projected) const;

  NormLayer norm_;
  LinearLayer query_, key_, value_, out_;
};

// One resolution: residual blocks, then enlargement unless it is the finest.
class DecoderLevel {
 public:
  DecoderLevel(const Weights& weights, int64_t in, int64_t out, int64_t num_blocks,
               bool has_upsampler);
  Picture Forward(DecoderPass& pass, Picture picture) const;

 private:
  std::vector<ResidualBlock> blocks_;
  std::optional<ConvLayer> upsampler_;
};

}  // namespace tamias
