// Decoding films frame by frame, whole or in tiles: see the header.
#include "models/autoencoders/frame_decoder.h"

#include <algorithm>

#include "base/check.h"
#include "ops/check_tensor.h"

namespace tamias {
namespace {

// From the fourth latent frame on every convolution holds all the frames that it ever will: the two
// before the current one, and the first of the film may pass some convolutions by.
constexpr int64_t kFramesToSteadyState = 4;

}  // namespace

FrameDecoder::FrameDecoder(const Format& format, const FrameTiling& tiling)
    : format_(format), tiling_(tiling) {
  TAMIAS_CHECK(0 <= tiling.overlap && tiling.overlap < tiling.tile_size);
}

FramePass FrameDecoder::PlanPass(Context& context, int64_t frames, int64_t height, int64_t width,
                                 bool plans_scratch) const {
  FramePass pass(context, format_.padding, plans_scratch);
  const FrameSink nowhere;
  const ConstTensorView latents(nullptr, DType::kF32, {1, height, width, format_.latent_channels});
  for (int64_t t = 0; t < std::min(frames, kFramesToSteadyState); ++t) {
    DecodeLatentFrame(pass, t == 0, latents, nowhere);
  }
  return pass;
}

std::optional<TileGrid> FrameDecoder::GridFor(int64_t frames, int64_t height, int64_t width) const {
  constexpr int64_t kLongestInTiles = 16;
  const int64_t side = std::max(height, width);
  if (side <= tiling_.tile_size) return std::nullopt;
  Context context;
  const bool is_tiled = side > kLongestInTiles * tiling_.tile_size ||
                        PlanPass(context, frames, height, width, /*plans_scratch=*/false).bytes() >
                            tiling_.untiled_bytes;
  if (!is_tiled) return std::nullopt;
  return TileGrid(height, width, tiling_.tile_size, tiling_.overlap);
}

TileFormat FrameDecoder::TileFormatOf(int64_t frames) const {
  return {.frames = 1 + (frames - 1) * format_.temporal_scale, .scale = format_.spatial_scale};
}

int64_t FrameDecoder::NumPieces(int64_t frames, int64_t height, int64_t width) const {
  const std::optional<TileGrid> grid = GridFor(frames, height, width);
  return frames * (grid ? grid->rows() * grid->columns() : 1);
}

size_t FrameDecoder::PlanBytes(int64_t frames, int64_t height, int64_t width) const {
  Context context;
  const std::optional<TileGrid> grid = GridFor(frames, height, width);
  if (!grid) return PlanPass(context, frames, height, width, /*plans_scratch=*/true).bytes();
  // A tile at the lower or right edge may be narrower; the first is the largest.
  const int64_t tile_height = grid->TileHeight(0), tile_width = grid->TileWidth(0);
  const TileFormat tile = TileFormatOf(frames);
  const Shape film = {tile.frames, tile.scale * height, tile.scale * width, tile.channels};
  const Shape window = {frames, tile_height, tile_width, format_.latent_channels};
  return static_cast<size_t>(film.NumElements() + window.NumElements()) * sizeof(float) +
         TileBlender::WorkspaceBytes(*grid, tile) +
         PlanPass(context, frames, tile_height, tile_width, /*plans_scratch=*/true).bytes();
}

void FrameDecoder::DecodeWhole(Context& context, ConstTensorView latents, const FrameSink& sink,
                               const std::function<void()>& after_piece) const {
  const Workspace::Scope scope(context.workspace());
  FramePass pass(context, PlanPass(context, latents.dim(0), latents.dim(1), latents.dim(2),
                                   /*plans_scratch=*/false));
  for (int64_t t = 0; t < latents.dim(0); ++t) {
    DecodeLatentFrame(pass, t == 0, latents.Slice(0, t, t + 1), sink);
    if (after_piece) after_piece();
  }
}

void FrameDecoder::DecodeTiles(Context& context, const TileGrid& grid, ConstTensorView latents,
                               const FrameSink& sink,
                               const std::function<void()>& after_piece) const {
  const Workspace::Scope scope(context.workspace());
  const TileFormat format = TileFormatOf(latents.dim(0));
  const TensorView film =
      context.workspace().Allocate({format.frames, format.scale * latents.dim(1),
                                    format.scale * latents.dim(2), format.channels},
                                   DType::kF32);
  const TileBlender blender(context, grid, format);
  for (int64_t row = 0; row < grid.rows(); ++row) {
    for (int64_t column = 0; column < grid.columns(); ++column) {
      const Workspace::Scope tile_scope(context.workspace());
      const int64_t top = grid.Begin(row), left = grid.Begin(column);
      const ConstTensorView part = latents.Slice(1, top, top + grid.TileHeight(row))
                                       .Slice(2, left, left + grid.TileWidth(column));
      const TensorView window = context.workspace().Allocate(part.shape(), DType::kF32);
      CopyOnHost(part, window);
      const TensorView tile = blender.Tile(row, column);
      int64_t next = 0;
      const FrameSink into_tile = [&](ConstTensorView pixels) {
        CopyOnHost(pixels, tile.Slice(0, next, next + 1));
        ++next;
      };
      DecodeWhole(context, window, into_tile, after_piece);
      blender.Blend(row, column, film);
    }
  }
  sink(film);
}

void FrameDecoder::Decode(Context& context, ConstTensorView latents, const FrameSink& sink,
                          const std::function<void()>& after_piece) const {
  CheckTensor("autoencoder", "latents", latents, DType::kF32,
              {-1, -1, -1, format_.latent_channels});
  CheckContiguous("autoencoder", "latents", latents);
  if (latents.NumElements() == 0) {
    Fail(ErrorCode::kInvalidArgument,
         "autoencoder: latents: expected at least one value, found shape {}",
         latents.shape().ToString());
  }
  const std::optional<TileGrid> grid = GridFor(latents.dim(0), latents.dim(1), latents.dim(2));
  if (grid) return DecodeTiles(context, *grid, latents, sink, after_piece);
  DecodeWhole(context, latents, sink, after_piece);
}

}  // namespace tamias
