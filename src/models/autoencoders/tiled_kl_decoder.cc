// The tiled decoder: see the header.
#include "models/autoencoders/tiled_kl_decoder.h"

#include <algorithm>

#include "base/check.h"

namespace tamias {

TiledKlDecoder::TiledKlDecoder(const KlDecoderConfig& config, const Weights& weights,
                               const KlTiling& tiling)
    : config_(config), tiling_(tiling), network_(config, weights) {
  TAMIAS_CHECK(0 <= tiling.overlap && tiling.overlap < tiling.tile_size);
}

std::optional<TileGrid> TiledKlDecoder::GridFor(int64_t frames, int64_t height,
                                                int64_t width) const {
  constexpr int64_t kLongestInTiles = 16;
  const int64_t side = std::max(height, width);
  if (side <= tiling_.tile_size) return std::nullopt;
  Context cpu = Context::Planning();
  const bool is_tiled =
      side > kLongestInTiles * tiling_.tile_size ||
      network_.MeasureBuffers(cpu, frames, height, width).total() > tiling_.untiled_bytes;
  if (!is_tiled) return std::nullopt;
  return TileGrid(height, width, tiling_.tile_size, tiling_.overlap);
}

TileFormat TiledKlDecoder::FormatOf(int64_t frames) const {
  const Shape pixels = network_.OutputShape(frames, 1, 1);
  return {.frames = pixels[0], .scale = pixels[1], .channels = pixels[3]};
}

void TiledKlDecoder::Decode(Context& context, ConstTensorView latents,
                            const std::optional<TileGrid>& grid, TensorView pixels,
                            const std::function<void()>& after_tile) const {
  if (!grid) {
    network_.Decode(context, latents, pixels);
    if (after_tile) after_tile();
    return;
  }
  Workspace& host = context.host_workspace();
  Workspace::Scope scope(host);
  const TileBlender blender(host, *grid, FormatOf(latents.dim(0)));
  for (int64_t row = 0; row < grid->rows(); ++row) {
    for (int64_t column = 0; column < grid->columns(); ++column) {
      Workspace::Scope tile_scope(host);
      const int64_t top = grid->Begin(row), left = grid->Begin(column);
      const ConstTensorView window = latents.Slice(1, top, top + grid->TileHeight(row))
                                         .Slice(2, left, left + grid->TileWidth(column));
      const TensorView tile = host.Allocate(window.shape(), DType::kF32);
      if (!context.IsPlanning()) CopyOnHost(window, tile);
      network_.Decode(context, tile, blender.Tile(row, column));
      if (context.IsPlanning()) return;
      blender.Blend(row, column, pixels);
      if (after_tile) after_tile();
    }
  }
}

}  // namespace tamias
