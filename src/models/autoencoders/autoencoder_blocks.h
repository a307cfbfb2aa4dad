// The parts of the KL autoencoders' decoder, channels-last, and the pass that runs them: films (a
// picture is one of one frame) live in three buffers that the blocks hand to each other, and a
// measuring pass over the same code, which computes nothing, tells their sizes. Films have the type
// of the context's activations. Method: see models/autoencoders/kl_decoder.h.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/linear_layer.h"
#include "ops/conv3d.h"
#include "tamias/context.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

enum class ConvKind {
  kPicture,     // k x k, padded with zeros
  kCausalFilm,  // k x k x k, k - 1 frames of it before the current one, padded by repetition
};

struct ConvLayer {
  ConstTensorView weight;  // [out, in, kt, k, k], k odd; kt = 1 for pictures
  ConstTensorView bias;    // [out]
  PaddingMode padding_mode = PaddingMode::kZeros;

  // What keeps the film's size.
  Padding3d padding() const {
    const int64_t side = weight.dim(3) / 2;
    return {weight.dim(2) - 1, 0, side, side, side, side, padding_mode};
  }
  // Reads "<name>.weight" and "<name>.bias", for films "<name>.conv.weight" and "<name>.conv.bias".
  static ConvLayer Load(const Weights& weights, const std::string& name, int64_t in, int64_t out,
                        int64_t kernel, ConvKind kind);
};

// A film within a pass: [frames, height, width, channels] in one of the buffers.
struct Film {
  size_t buffer = 0;
  Shape shape;

  int64_t frames() const { return shape[0]; }
  int64_t height() const { return shape[1]; }
  int64_t width() const { return shape[2]; }
  int64_t channels() const { return shape[3]; }
  int64_t pixels() const { return shape[0] * shape[1] * shape[2]; }
};

// The sizes of a pass's buffers, in bytes.
struct DecoderBuffers {
  std::array<size_t, 3> bytes{};
  size_t total() const { return bytes[0] + bytes[1] + bytes[2]; }
};

class DecoderPass {
 public:
  // A measuring pass.
  DecoderPass(Context& context, int64_t norm_num_groups)
      : context_(context), groups_(norm_num_groups) {}
  // A real pass; its buffers live until the caller's workspace scope ends.
  DecoderPass(Context& context, int64_t norm_num_groups, const DecoderBuffers& measured);

  Context& context() { return context_; }
  // So far.
  const DecoderBuffers& buffers() const { return sizes_; }

  // A film in a free buffer, and the return of that buffer.
  Film Allocate(const Shape& shape);
  void Free(const Film& film) { in_use_[film.buffer] = false; }
  // [frames, height, width, channels]; of a real pass.
  TensorView View(const Film& film) const;
  // Runs an operation in a real pass.
  template <typename Operation>
  void Run(const Operation& operation) {
    if (!measures_) operation();
  }

  // output = convolution of the input [frames, height, width, channels].
  void Convolve(const ConvLayer& layer, ConstTensorView input, TensorView output);
  // output (+)= convolution(SiLU(group norm(input))).
  void NormConvolve(const NormLayer& norm, const ConvLayer& layer, const Film& input,
                    bool accumulate, TensorView output);
  // output = group norm(input).
  void Norm(const NormLayer& norm, const Film& input, const Film& output);

 private:
  Context& context_;
  int64_t groups_;
  bool measures_ = true;
  std::array<TensorView, 3> buffers_;
  DecoderBuffers sizes_;
  std::array<bool, 3> in_use_{};
};

// y = shortcut(x) + conv2(SiLU(norm2(conv1(SiLU(norm1(x)))))).
class ResidualBlock {
 public:
  ResidualBlock(const Weights& weights, int64_t in, int64_t out, ConvKind kind);
  // Takes the input's buffer over.
  Film Forward(DecoderPass& pass, const Film& input) const;

 private:
  NormLayer norm1_, norm2_;
  ConvLayer conv1_, conv2_;
  std::optional<ConvLayer> shortcut_;  // 1 x 1, where the number of channels changes
};

// x += out(attention(q, k, v of norm(x))), one head: a pixel sees all pixels of its frame and of
// those before.
class PixelAttention {
 public:
  PixelAttention(const Weights& weights, int64_t channels);
  void Forward(DecoderPass& pass, const Film& film) const;

 private:
  void ForwardPixels(DecoderPass& pass, const Film& film, const Film& normed,
                     const Film& projected) const;

  NormLayer norm_;
  LinearLayer query_, key_, value_, out_;
};

enum class Enlargement {
  kNone,
  kSpace,         // twofold in height and width
  kSpaceAndTime,  // and every frame but the first becomes two
};

// One resolution: residual blocks, then enlargement.
class DecoderLevel {
 public:
  DecoderLevel(const Weights& weights, int64_t in, int64_t out, int64_t num_blocks, ConvKind kind,
               Enlargement enlargement);
  Film Forward(DecoderPass& pass, Film film) const;

 private:
  Film Enlarge(DecoderPass& pass, const Film& film) const;

  std::vector<ResidualBlock> blocks_;
  Enlargement enlargement_;
  ConvLayer upsampler_;  // empty unless the level enlarges
};

}  // namespace tamias
