// The parts of the autoencoders' decoder: see the header.
#include "models/autoencoders/autoencoder_blocks.h"

#include <cmath>

#include "base/check.h"
#include "ops/biased_attention.h"
#include "ops/upsample_conv3d.h"
#include "tamias/ops/norm.h"

namespace tamias {
namespace {

constexpr float kNormEpsilon = 1e-6f;

// [frames, height, width, channels] as a batch of one.
template <typename View>
View AsBatch(const View& film) {
  return film.SplitAxis(0, 1, film.dim(0));
}

// All frames below each other: group norm's statistics are the whole film's.
TensorView AsOnePicture(const TensorView& film) {
  return film.Reshape({1, film.dim(0) * film.dim(1), film.dim(2), film.dim(3)});
}

}  // namespace

ConvLayer ConvLayer::Load(const Weights& weights, const std::string& name, int64_t in, int64_t out,
                          int64_t kernel, ConvKind kind) {
  if (kind == ConvKind::kCausalFilm) {
    return {weights.Get(name + ".conv.weight", {out, in, kernel, kernel, kernel}),
            weights.Get(name + ".conv.bias", {out}), PaddingMode::kReplicate};
  }
  return {weights.Get(name + ".weight", {out, in, kernel, kernel}).SplitAxis(2, 1, kernel),
          weights.Get(name + ".bias", {out}), PaddingMode::kZeros};
}

DecoderPass::DecoderPass(Context& context, int64_t norm_num_groups, const DecoderBuffers& measured)
    : context_(context), groups_(norm_num_groups), measures_(false) {
  for (size_t i = 0; i < buffers_.size(); ++i) {
    buffers_[i] = context.workspace().AllocateBytes(measured.bytes[i]);
  }
}

// Best fit: the smallest free buffer that is large enough by now, else the largest. A real pass
// repeats the choices of the measuring one.
Film DecoderPass::Allocate(const Shape& shape) {
  Film film{0, shape};
  const size_t bytes =
      static_cast<size_t>(shape.NumElements()) * SizeOf(context_.activation_dtype());
  std::optional<size_t> best;
  for (size_t i = 0; i < buffers_.size(); ++i) {
    if (in_use_[i]) continue;
    const size_t size = sizes_.bytes[i];
    const size_t best_size = best ? sizes_.bytes[*best] : 0;
    const bool fits = size >= bytes, best_fits = best && best_size >= bytes;
    if (!best || (fits && (!best_fits || size < best_size)) ||
        (!fits && !best_fits && size > best_size)) {
      best = i;
    }
  }
  TAMIAS_CHECK(best.has_value());
  film.buffer = *best;
  in_use_[*best] = true;
  sizes_.bytes[*best] = std::max(sizes_.bytes[*best], bytes);
  return film;
}

TensorView DecoderPass::View(const Film& film) const {
  const TensorView& buffer = buffers_[film.buffer];
  return TensorView(buffer.raw(), context_.activation_dtype(), film.shape, buffer.device());
}

void DecoderPass::Convolve(const ConvLayer& layer, ConstTensorView input, TensorView output) {
  Conv3d(context_, AsBatch(input), layer.weight, layer.bias, {.padding = layer.padding()},
         AsBatch(output));
}

void DecoderPass::NormConvolve(const NormLayer& norm, const ConvLayer& layer, const Film& input,
                               bool accumulate, TensorView output) {
  Workspace::Scope scope(context_.workspace());
  const TensorView gain = context_.workspace().Allocate({1, input.channels()}, DType::kF32);
  const TensorView offset = context_.workspace().Allocate({1, input.channels()}, DType::kF32);
  GroupNormStatistics(context_, AsOnePicture(View(input)), groups_, norm.weight, norm.bias,
                      kNormEpsilon, gain, offset);
  Conv3d(context_, AsBatch(View(input)), layer.weight, layer.bias,
         {.padding = layer.padding(),
          .accumulate = accumulate,
          .input_gain = AsBatch(gain),
          .input_offset = AsBatch(offset),
          .input_silu = true},
         AsBatch(output));
}

void DecoderPass::Norm(const NormLayer& norm, const Film& input, const Film& output) {
  GroupNorm(context_, AsOnePicture(View(input)), groups_, norm.weight, norm.bias, kNormEpsilon,
            /*silu=*/false, AsOnePicture(View(output)));
}

ResidualBlock::ResidualBlock(const Weights& weights, int64_t in, int64_t out, ConvKind kind)
    : norm1_(NormLayer::Load(weights, "norm1", in)),
      norm2_(NormLayer::Load(weights, "norm2", out)),
      conv1_(ConvLayer::Load(weights, "conv1", in, out, 3, kind)),
      conv2_(ConvLayer::Load(weights, "conv2", out, out, 3, kind)) {
  if (in != out) shortcut_ = ConvLayer::Load(weights, "conv_shortcut", in, out, 1, kind);
}

Film ResidualBlock::Forward(DecoderPass& pass, const Film& input) const {
  Shape shape = input.shape;
  shape[3] = conv1_.weight.dim(0);
  const Film hidden = pass.Allocate(shape);
  pass.Run(
      [&] { pass.NormConvolve(norm1_, conv1_, input, /*accumulate=*/false, pass.View(hidden)); });
  Film output = input;
  if (shortcut_) {
    output = pass.Allocate(shape);
    pass.Run([&] { pass.Convolve(*shortcut_, pass.View(input), pass.View(output)); });
    pass.Free(input);
  }
  pass.Run(
      [&] { pass.NormConvolve(norm2_, conv2_, hidden, /*accumulate=*/true, pass.View(output)); });
  pass.Free(hidden);
  return output;
}

namespace {

// A projection by its name or the one that older versions of diffusers gave it, a matrix [C, C] or
// a 1 x 1 convolution.
LinearLayer LoadProjection(const Weights& weights, const std::string& name,
                           const std::string& old_name, int64_t channels) {
  const bool is_old = !weights.Has(name + ".weight") && weights.Has(old_name + ".weight");
  const Weights layer = weights.Sub(is_old ? old_name : name);
  const bool is_convolution = layer.Get("weight").rank() == 4;
  const ConstTensorView weight =
      is_convolution ? layer.Get("weight", {channels, channels, 1, 1}).Reshape({channels, channels})
                     : layer.Get("weight", {channels, channels});
  return {weight, layer.Get("bias", {channels})};
}

}  // namespace

PixelAttention::PixelAttention(const Weights& weights, int64_t channels)
    : norm_(NormLayer::Load(weights, "group_norm", channels)),
      query_(LoadProjection(weights, "to_q", "query", channels)),
      key_(LoadProjection(weights, "to_k", "key", channels)),
      value_(LoadProjection(weights, "to_v", "value", channels)),
      out_(LoadProjection(weights, "to_out.0", "proj_attn", channels)) {}

void PixelAttention::Forward(DecoderPass& pass, const Film& film) const {
  const int64_t channels = film.channels();
  const Film normed = pass.Allocate(film.shape);
  const Film projected = pass.Allocate({film.frames(), film.height(), film.width(), 3 * channels});
  pass.Run([&] {
    pass.Norm(norm_, film, normed);
    ForwardPixels(pass, film, normed, projected);
  });
  pass.Free(normed);
  pass.Free(projected);
}

void PixelAttention::ForwardPixels(DecoderPass& pass, const Film& film, const Film& normed,
                                   const Film& projected) const {
  const int64_t pixels = film.pixels(), channels = film.channels();
  Context& context = pass.context();
  const TensorView rows = pass.View(normed).Reshape({1, 1, pixels, channels});
  const TensorView triple = pass.View(projected).Reshape({1, 1, pixels, 3 * channels});
  const TensorView query = triple.Slice(3, 0, channels);
  const TensorView key = triple.Slice(3, channels, 2 * channels);
  const TensorView value = triple.Slice(3, 2 * channels, 3 * channels);
  query_(context, rows, query);
  key_(context, rows, key);
  value_(context, rows, value);
  for (int64_t end = pixels / film.frames(), begin = 0; begin < pixels;
       begin = end, end += pixels / film.frames()) {
    BiasedAttention(context,
                    {.query = query.Slice(2, begin, end),
                     .key = key.Slice(2, 0, end),
                     .value = value.Slice(2, 0, end),
                     .scale = 1 / std::sqrt(static_cast<float>(channels))},
                    rows.Slice(2, begin, end));
  }
  out_(context, rows, pass.View(film).Reshape({1, 1, pixels, channels}), {.accumulate = true});
}

DecoderLevel::DecoderLevel(const Weights& weights, int64_t in, int64_t out, int64_t num_blocks,
                           ConvKind kind, Enlargement enlargement)
    : enlargement_(enlargement) {
  for (int64_t i = 0; i < num_blocks; ++i) {
    blocks_.emplace_back(weights.Sub("resnets", i), i == 0 ? in : out, out, kind);
  }
  if (enlargement != Enlargement::kNone) {
    upsampler_ = ConvLayer::Load(weights, "upsamplers.0.conv", out, out, 3, kind);
  }
}

Film DecoderLevel::Forward(DecoderPass& pass, Film film) const {
  for (const ResidualBlock& block : blocks_) film = block.Forward(pass, film);
  return enlargement_ == Enlargement::kNone ? film : Enlarge(pass, film);
}

Film DecoderLevel::Enlarge(DecoderPass& pass, const Film& film) const {
  const UpsampleConv3dOptions options = {
      .doubles_frames = enlargement_ == Enlargement::kSpaceAndTime,
      .padding = upsampler_.padding_mode};
  const Film enlarged = pass.Allocate({UpsampledFrames(film.frames(), options.doubles_frames),
                                       2 * film.height(), 2 * film.width(), film.channels()});
  pass.Run([&] {
    UpsampleConv3d(pass.context(), AsBatch(pass.View(film)), upsampler_.weight, upsampler_.bias,
                   options, AsBatch(pass.View(enlarged)));
  });
  pass.Free(film);
  return enlarged;
}

}  // namespace tamias
