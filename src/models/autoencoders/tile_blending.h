// Overlapping tiles of a picture or of a film's frames and their linear blending, as diffusers'
// AutoencoderKL.tiled_decode and its video relatives do it. Tiles begin every tile_size - overlap
// latent pixels and are cut off at the picture's edge; each is blended over the overlap with the
// tile above and then with the one to its left (both already blended), and fills the picture up to
// where the next tile begins.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "tamias/tensor.h"
#include "tamias/workspace.h"

namespace tamias {

// Where tiles lie, in latent pixels.
class TileGrid {
 public:
  TileGrid(int64_t height, int64_t width, int64_t tile_size, int64_t overlap)
      : height_(height), width_(width), tile_size_(tile_size), overlap_(overlap) {}

  int64_t rows() const { return (height_ + step() - 1) / step(); }
  int64_t columns() const { return (width_ + step() - 1) / step(); }
  int64_t step() const { return tile_size_ - overlap_; }
  int64_t overlap() const { return overlap_; }
  int64_t Begin(int64_t index) const { return index * step(); }
  int64_t TileHeight(int64_t row) const { return std::min(tile_size_, height_ - Begin(row)); }
  int64_t TileWidth(int64_t column) const { return std::min(tile_size_, width_ - Begin(column)); }

 private:
  int64_t height_, width_, tile_size_, overlap_;
};

// after[i] = before[size - extent + i] (1 - i / extent) + after[i] i / extent along an axis of
// tiles [frames, h, w, channels], i < extent = the least of the overlap and the tiles' sizes: the
// last lines of one tile fade into the first of the next. In memory of the host.
void FadeTiles(ConstTensorView before, int axis, int64_t overlap, TensorView after);

// What a tile holds.
struct TileFormat {
  int64_t frames = 1;
  int64_t scale = 1;  // pixels per latent pixel
  int64_t channels = 3;
};

// Holds two rows of decoded tiles in memory of the host; tiles come row by row, from left to right.
class TileBlender {
 public:
  // `host` is a workspace of the host.
  TileBlender(Workspace& host, const TileGrid& grid, const TileFormat& format);

  // [frames, h, w, channels], contiguous: where to decode a tile to.
  TensorView Tile(int64_t row, int64_t column) const;
  // Blends a decoded tile with its neighbours and copies its part into pixels [frames, H, W,
  // channels].
  void Blend(int64_t row, int64_t column, TensorView pixels) const;

 private:
  TileGrid grid_;
  TileFormat format_;
  std::array<std::vector<TensorView>, 2> storage_;  // by parity of the row, then by column
};

}  // namespace tamias
