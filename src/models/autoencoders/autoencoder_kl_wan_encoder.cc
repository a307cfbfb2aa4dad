// The encoder of Wan 2.1's autoencoder: see the header.
#include "models/autoencoders/autoencoder_kl_wan_encoder.h"

#include <algorithm>

#include "base/check.h"
#include "base/dry_run.h"
#include "models/autoencoders/activations_of.h"
#include "ops/check_tensor.h"
#include "tamias/ops/copy.h"

namespace tamias {
namespace {

constexpr int64_t kColours = 3;
constexpr int64_t kFramesOfKernel = 3;
// As in models/frame_decoder.cc: from the fourth latent frame on all convolutions hold what they
// ever will.
constexpr int64_t kLatentsToSteadyState = 4;

// Latent pixels along a side up to which the operations' scratch is asked for, which takes time in
// proportion to the picture; frames beyond take hundreds of GiB without it.
constexpr int64_t kLongestSideWithScratch = 512;

// Frame `number` of the source, by way of the host's memory, to where the pass reads it.
void ReadFrame(FramePass& pass, const FrameSource& source, int64_t number,
               const TensorView& frame) {
  Context& context = pass.context();
  if (!context.IsOnGpu()) {
    if (!pass.is_dry()) source(number, frame);
    return;
  }
  const FramePass::Scope scope(pass);
  Workspace& host = context.host_workspace();
  const Workspace::Scope host_scope(host);
  const TensorView pixels = host.Allocate(frame.shape(), DType::kF32);
  const TensorView uploaded = pass.Allocate(frame.shape(), DType::kF32);
  if (pass.is_dry()) return;
  source(number, pixels);
  CopyToDevice(context, pixels, uploaded);
  Convert(context, uploaded, frame);
}

}  // namespace

AutoencoderKlWanEncoder::AutoencoderKlWanEncoder(const AutoencoderKlWanConfig& config,
                                                 const Weights& weights)
    : config_(config), weights_(weights) {
  const Weights encoder = weights.Sub("encoder");
  conv_in_ = LoadWanConv(encoder, "conv_in", kColours, config.base_dim);
  int64_t channels = config.base_dim;
  int64_t index = 0;  // blocks and downsamplers of all levels are numbered in one row
  for (size_t i = 0; i < config.dim_mult.size(); ++i) {
    Level& level = levels_.emplace_back();
    const int64_t out = config.base_dim * config.dim_mult[i];
    for (int64_t block = 0; block < config.num_res_blocks; ++block) {
      level.blocks.push_back(LoadWanBlock(encoder.Sub("down_blocks", index++), channels, out));
      channels = out;
    }
    if (i + 1 == config.dim_mult.size()) break;
    const Weights resample = encoder.Sub("down_blocks", index++);
    Downsampler& downsampler = level.downsampler.emplace();
    downsampler.halve = HalvingConv::Load(resample, "resample.1", channels, channels);
    if (config.temporal_downsample[i]) {
      downsampler.time_conv =
          CausalConv::Load(resample, "time_conv", channels, channels, kFramesOfKernel, 1);
    }
  }
  middle_ = WanMiddle::Load(encoder.Sub("mid_block"), channels);
  const int64_t moments = 2 * config.z_dim;
  norm_out_ = LoadWanNorm(encoder, "norm_out", channels);
  conv_out_ = LoadWanConv(encoder, "conv_out", channels, moments);
  const LinearLayer quant = LoadPointwise(weights, "quant_conv", {moments, moments, 1, 1, 1});
  quant_mean_ = {quant.weight.Slice(0, 0, config.z_dim), quant.bias.Slice(0, 0, config.z_dim)};
}

std::optional<TensorView> AutoencoderKlWanEncoder::Downsampler::Forward(FramePass& pass,
                                                                        const TensorView& frame,
                                                                        int64_t& number) const {
  const Shape half = {1, frame.dim(1) / 2, frame.dim(2) / 2, frame.dim(3)};
  if (!time_conv) {
    const TensorView halved = pass.Allocate(half);
    halve.Forward(pass, frame, halved);
    return halved;
  }
  const TensorView halved = pass.TakeFrame(half);
  halve.Forward(pass, frame, halved);
  const bool is_odd = number % 2 == 1;
  number /= 2;
  if (is_odd) {
    pass.Remember(*time_conv, halved);
    return std::nullopt;
  }
  const TensorView result = pass.Allocate(half);
  if (number > 0) {
    pass.Convolve(*time_conv, halved, /*accumulate=*/false, {result});
  } else {  // the first frame of the film passes the convolution by, which remembers it
    pass.Run([&] { Copy(pass.context(), halved, result); });
    pass.Remember(*time_conv, halved);
  }
  return result;
}

bool AutoencoderKlWanEncoder::EncodeFrame(FramePass& pass, int64_t number,
                                          const FrameSource& source,
                                          const TensorView& latents) const {
  const FramePass::Scope scope(pass);
  const int64_t scale = config_.spatial_scale();
  const int64_t height = scale * latents.dim(1), width = scale * latents.dim(2);
  const TensorView pixels = pass.TakeFrame({1, height, width, kColours});
  ReadFrame(pass, source, number, pixels);
  TensorView frame = pass.Allocate({1, height, width, config_.base_dim});
  pass.Convolve(conv_in_, pixels, /*accumulate=*/false, {frame});
  for (const Level& level : levels_) {
    for (const FrameResidualBlock& block : level.blocks) frame = block.Forward(pass, frame);
    if (!level.downsampler) break;
    const std::optional<TensorView> next = level.downsampler->Forward(pass, frame, number);
    if (!next) return false;
    frame = *next;
  }
  middle_.Forward(pass, frame);
  const TensorView moments =
      pass.Allocate({1, frame.dim(1), frame.dim(2), conv_out_.weight.dim(0)});
  NormConvolve(pass, norm_out_, conv_out_, frame, /*accumulate=*/false, moments);
  ApplyToPixels(pass, quant_mean_, moments, /*accumulate=*/false,
                latents.Slice(0, number, number + 1));
  return true;
}

void AutoencoderKlWanEncoder::EncodeFrames(FramePass& pass, const FrameSource& source,
                                           TensorView latents,
                                           const std::function<void()>& after_piece) const {
  const int64_t latent_frames =
      pass.is_dry() ? std::min(latents.dim(0), kLatentsToSteadyState) : latents.dim(0);
  const int64_t frames = 1 + (latent_frames - 1) * config_.temporal_scale();
  for (int64_t t = 0; t < frames; ++t) {
    if (EncodeFrame(pass, t, source, latents) && after_piece) after_piece();
  }
}

FramePass AutoencoderKlWanEncoder::CountFrames(Context& context, TensorView latents) const {
  FramePass pass(context, PaddingMode::kZeros);
  EncodeFrames(pass, {}, latents, {});
  return pass;
}

size_t AutoencoderKlWanEncoder::PlanBytes(int64_t frames, int64_t height, int64_t width,
                                          int threads) const {
  return PlannedWorkspace({}, threads, [&](Context& context) {
    Encode(context, {},
           TensorView::WithoutMemory({frames, height, width, config_.z_dim}, DType::kF32, {}));
  });
}

void AutoencoderKlWanEncoder::Encode(Context& context, const FrameSource& source,
                                     TensorView latents,
                                     const std::function<void()>& after_piece) const {
  CheckTensor("autoencoder", "latents", latents, DType::kF32, {-1, -1, -1, config_.z_dim});
  CheckContiguous("autoencoder", "latents", latents);
  const Workspace::Scope scope(context.workspace());
  const bool runs_operations =
      !context.IsPlanning() || std::max(latents.dim(1), latents.dim(2)) <= kLongestSideWithScratch;
  const DeviceMirror encoded(context, latents);
  FramePass pass(context, CountFrames(context, encoded.device()), runs_operations);
  EncodeFrames(pass, source, encoded.device(), after_piece);
  encoded.Download(context);
}

}  // namespace tamias
