// The frame of the decoders that run a film one latent frame after the other
// (models/autoencoders/frame_pass.h): memory plans and, where the pictures are too large to be
// decoded whole, overlapping tiles that are blended linearly, as diffusers does after
// vae.enable_tiling(). Symbols: T latent frames of h x w, C latent channels; F = 1 + (T - 1)
// temporal_scale frames of H x W = spatial_scale (h x w) pixels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "models/autoencoders/frame_pass.h"
#include "models/autoencoders/frame_sink.h"
#include "models/autoencoders/tile_blending.h"
#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// How large pictures are cut so that memory stays bounded; the sizes are diffusers'.
struct FrameTiling {
  int64_t tile_size = 32;  // latent pixels along a side of a tile
  int64_t overlap = 8;     // latent pixels shared with the next tile, less than tile_size
  // What needs no more than this, without scratch, is decoded whole, unless a side is longer than
  // 16 tiles: Wan's 1280 x 720 is, 1920 x 1080 is not.
  size_t untiled_bytes = size_t{12} << 30;
};

class FrameDecoder {
 public:
  virtual ~FrameDecoder() = default;

  // latents [T, h, w, C] f32, contiguous -> F frames for the sink, both in memory of the host,
  // whatever the context's device. after_piece is called NumPieces(T, h, w) times. Decoded whole,
  // frames come one by one. A film in tiles comes at the end; it is not quite the whole one, for
  // tiles do not see beyond their edges.
  void Decode(Context& context, ConstTensorView latents, const FrameSink& sink,
              const std::function<void()>& after_piece = {}) const;

  int64_t NumPieces(int64_t frames, int64_t height, int64_t width) const;
  // Peak workspace of Decode on the CPU: whole, the same for any number of latent frames from four
  // on; in tiles, twice the film's pixels come on top. threads as Context.
  size_t PlanBytes(int64_t frames, int64_t height, int64_t width, int threads = 0) const;

 protected:
  struct Format {
    int64_t latent_channels = 0;
    int64_t temporal_scale = 1;
    int64_t spatial_scale = 1;
    PaddingMode padding = PaddingMode::kZeros;
  };
  FrameDecoder(const Format& format, const FrameTiling& tiling);

  // The next latent frame, [1, h, w, C] of activations, all the way to the sink, which is not
  // called in a dry pass and takes pixels on the context's device.
  virtual void DecodeLatentFrame(FramePass& pass, bool is_first, ConstTensorView latents,
                                 const FrameSink& sink) const = 0;

 private:
  std::optional<TileGrid> GridFor(int64_t frames, int64_t height, int64_t width) const;
  TileFormat TileFormatOf(int64_t frames) const;
  // Latents for plans.
  TensorView WithoutMemory(int64_t frames, int64_t height, int64_t width) const;
  // All latent frames; in a dry pass those after which every convolution holds all that it ever
  // will.
  void DecodeFrames(FramePass& pass, ConstTensorView latents, const FrameSink& sink,
                    const std::function<void()>& after_piece) const;
  FramePass CountFrames(Context& context, ConstTensorView latents) const;
  void DecodeWhole(Context& context, ConstTensorView latents, const FrameSink& sink,
                   const std::function<void()>& after_piece) const;
  // With a planning context the first tile alone, the largest.
  void DecodeTiles(Context& context, const TileGrid& grid, ConstTensorView latents,
                   const FrameSink& sink, const std::function<void()>& after_piece) const;

  Format format_;
  FrameTiling tiling_;
};

}  // namespace tamias
