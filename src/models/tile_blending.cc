// Tiles and their blending: see the header.
#include "models/tile_blending.h"

namespace tamias {
namespace {

// after[i] = before[size - extent + i] (1 - i / extent) + after[i] i / extent along an axis, i <
// extent: the last lines of one tile fade into the first of the next.
void Fade(const TensorView& before, int axis, int64_t overlap, const TensorView& after) {
  const int64_t extent = std::min({before.dim(axis), after.dim(axis), overlap});
  for (int64_t i = 0; i < extent; ++i) {
    const double weight = static_cast<double>(i) / static_cast<double>(extent);
    const auto old_weight = static_cast<float>(1 - weight), new_weight = static_cast<float>(weight);
    const TensorView from = before.Select(axis, before.dim(axis) - extent + i);
    const TensorView to = after.Select(axis, i);
    for (int64_t line = 0; line < to.dim(0); ++line) {
      const float* a = from.data<float>() + line * from.stride(0);
      float* b = to.data<float>() + line * to.stride(0);
      for (int64_t c = 0; c < to.dim(1); ++c) b[c] = a[c] * old_weight + b[c] * new_weight;
    }
  }
}

}  // namespace

TileBlender::TileBlender(Context& context, const TileGrid& grid, int64_t scale, int64_t channels)
    : grid_(grid), scale_(scale), channels_(channels) {
  for (std::vector<TensorView>& row : storage_) {
    for (int64_t column = 0; column < grid.columns(); ++column) {
      row.push_back(context.workspace().Allocate(
          {scale * grid.TileHeight(0), scale * grid.TileWidth(0), channels}));
    }
  }
}

size_t TileBlender::WorkspaceBytes(const TileGrid& grid, int64_t scale, int64_t channels) {
  const Shape tile = {scale * grid.TileHeight(0), scale * grid.TileWidth(0), channels, 4};
  return 2 * static_cast<size_t>(grid.columns() * (tile.NumElements() + 63));
}

TensorView TileBlender::Tile(int64_t row, int64_t column) const {
  const TensorView& storage = storage_[static_cast<size_t>(row % 2)][static_cast<size_t>(column)];
  return TensorView(
      storage.raw(), DType::kF32,
      {1, scale_ * grid_.TileHeight(row), scale_ * grid_.TileWidth(column), channels_});
}

void TileBlender::Blend(int64_t row, int64_t column, TensorView pixels) const {
  const TensorView tile = Tile(row, column).Select(0, 0);
  const int64_t overlap = scale_ * grid_.overlap(), limit = scale_ * grid_.step();
  if (row > 0) Fade(Tile(row - 1, column).Select(0, 0), 0, overlap, tile);
  if (column > 0) Fade(Tile(row, column - 1).Select(0, 0), 1, overlap, tile);
  const int64_t height = std::min(tile.dim(0), limit), width = std::min(tile.dim(1), limit);
  const int64_t top = scale_ * grid_.Begin(row), left = scale_ * grid_.Begin(column);
  CopyTensor(tile.Slice(0, 0, height).Slice(1, 0, width),
             pixels.Select(0, 0).Slice(0, top, top + height).Slice(1, left, left + width));
}

}  // namespace tamias
