// The KL autoencoders' decoder with large pictures cut into overlapping tiles, so that memory stays
// bounded. Symbols: see models/autoencoders/kl_decoder.h.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "models/autoencoders/kl_decoder.h"
#include "models/autoencoders/tile_blending.h"
#include "tamias/context.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

struct KlTiling {
  int64_t tile_size = 128;  // latent pixels along a side of a tile
  int64_t overlap = 32;     // latent pixels shared with the next tile, less than tile_size
  // What needs no more than this on the CPU, without scratch, is decoded whole, unless a side is
  // longer than 16 tiles.
  size_t untiled_bytes = size_t{4} << 30;
};

class TiledKlDecoder {
 public:
  TiledKlDecoder(const KlDecoderConfig& config, const Weights& weights, const KlTiling& tiling);

  // The tiles of latents [t, h, w], or none where they are decoded whole: the same on every device,
  // as the picture depends on them.
  std::optional<TileGrid> GridFor(int64_t frames, int64_t height, int64_t width) const;
  // latents [t, h, w, C] f32 -> pixels [T, H, W, out_channels] f32, both contiguous and in memory
  // of the host, where tiles are blended, too, in the context's host workspace. after_tile is
  // called for each tile, or once. With a planning context the first tile alone is run, the
  // largest.
  void Decode(Context& context, ConstTensorView latents, const std::optional<TileGrid>& grid,
              TensorView pixels, const std::function<void()>& after_tile) const;
  const KlDecoder& network() const { return network_; }

 private:
  TileFormat FormatOf(int64_t frames) const;

  KlDecoderConfig config_;
  KlTiling tiling_;
  KlDecoder network_;
};

}  // namespace tamias
