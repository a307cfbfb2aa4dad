// Overlapping tiles of a picture and their linear blending, as diffusers'
// AutoencoderKL.tiled_decode does it. Tiles begin every tile_size - overlap latent pixels and are
// cut off at the picture's edge; each is blended over the overlap with the tile above and then with
// the one to its left (both already blended), and fills the picture up to where the next tile
// begins.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "base/context.h"
#include "base/tensor.h"

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

// Holds two rows of decoded tiles; tiles come row by row, from left to right.
class TileBlender {
 public:
  // scale: picture pixels per latent pixel.
  TileBlender(Context& context, const TileGrid& grid, int64_t scale, int64_t channels);
  static size_t WorkspaceBytes(const TileGrid& grid, int64_t scale, int64_t channels);

  // [1, h, w, channels], contiguous: where to decode a tile to.
  TensorView Tile(int64_t row, int64_t column) const;
  // Blends a decoded tile with its neighbours and copies its part into pixels [1, H, W, channels].
  void Blend(int64_t row, int64_t column, TensorView pixels) const;

 private:
  TileGrid grid_;
  int64_t scale_;
  int64_t channels_;
  std::array<std::vector<TensorView>, 2> storage_;  // by parity of the row, then by column
};

}  // namespace tamias
