// Tiles and their blending: see the header.
#include "models/autoencoders/tile_blending.h"

namespace tamias {

void FadeTiles(ConstTensorView before, int axis, int64_t overlap, TensorView after) {
  const int64_t extent = std::min({before.dim(axis), after.dim(axis), overlap});
  for (int64_t i = 0; i < extent; ++i) {
    const double weight = static_cast<double>(i) / static_cast<double>(extent);
    const auto old_weight = static_cast<float>(1 - weight), new_weight = static_cast<float>(weight);
    const ConstTensorView from = before.Select(axis, before.dim(axis) - extent + i);
    const TensorView to = after.Select(axis, i);
    for (int64_t a = 0; a < to.dim(0); ++a) {
      for (int64_t b = 0; b < to.dim(1); ++b) {
        const float* x = from.host_data<float>() + a * from.stride(0) + b * from.stride(1);
        float* y = to.host_data<float>() + a * to.stride(0) + b * to.stride(1);
        for (int64_t c = 0; c < to.dim(2); ++c) y[c] = x[c] * old_weight + y[c] * new_weight;
      }
    }
  }
}

TileBlender::TileBlender(Workspace& host, const TileGrid& grid, const TileFormat& format)
    : grid_(grid), format_(format) {
  for (std::vector<TensorView>& row : storage_) {
    for (int64_t column = 0; column < grid.columns(); ++column) {
      row.push_back(host.Allocate({format.frames, format.scale * grid.TileHeight(0),
                                   format.scale * grid.TileWidth(0), format.channels},
                                  DType::kF32));
    }
  }
}

TensorView TileBlender::Tile(int64_t row, int64_t column) const {
  const TensorView& storage = storage_[static_cast<size_t>(row % 2)][static_cast<size_t>(column)];
  return TensorView(storage.raw(), DType::kF32,
                    {format_.frames, format_.scale * grid_.TileHeight(row),
                     format_.scale * grid_.TileWidth(column), format_.channels});
}

void TileBlender::Blend(int64_t row, int64_t column, TensorView pixels) const {
  const TensorView tile = Tile(row, column);
  const int64_t scale = format_.scale, overlap = scale * grid_.overlap();
  if (row > 0) FadeTiles(Tile(row - 1, column), 1, overlap, tile);
  if (column > 0) FadeTiles(Tile(row, column - 1), 2, overlap, tile);
  const int64_t height = std::min(tile.dim(1), scale * grid_.step());
  const int64_t width = std::min(tile.dim(2), scale * grid_.step());
  const int64_t top = scale * grid_.Begin(row), left = scale * grid_.Begin(column);
  CopyOnHost(tile.Slice(1, 0, height).Slice(2, 0, width),
             pixels.Slice(1, top, top + height).Slice(2, left, left + width));
}

}  // namespace tamias
