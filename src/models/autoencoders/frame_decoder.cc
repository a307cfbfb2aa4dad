// Decoding films frame by frame, whole or in tiles: see the header.
#include "models/autoencoders/frame_decoder.h"

#include <algorithm>

#include "base/check.h"
#include "base/dry_run.h"
#include "models/autoencoders/activations_of.h"
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

void FrameDecoder::DecodeFrames(FramePass& pass, ConstTensorView latents, const FrameSink& sink,
                                const std::function<void()>& after_piece) const {
  const int64_t frames =
      pass.is_dry() ? std::min(latents.dim(0), kFramesToSteadyState) : latents.dim(0);
  for (int64_t t = 0; t < frames; ++t) {
    DecodeLatentFrame(pass, t == 0, latents.Slice(0, t, t + 1), sink);
    if (after_piece) after_piece();
  }
}

FramePass FrameDecoder::CountFrames(Context& context, ConstTensorView latents) const {
  FramePass pass(context, format_.padding);
  DecodeFrames(pass, latents, {}, {});
  return pass;
}

std::optional<TileGrid> FrameDecoder::GridFor(int64_t frames, int64_t height, int64_t width) const {
  constexpr int64_t kLongestInTiles = 16;
  const int64_t side = std::max(height, width);
  if (side <= tiling_.tile_size) return std::nullopt;
  const auto bytes_without_scratch = [&] {
    return PlannedWorkspace({}, /*threads=*/1, [&](Context& context) {
      const TensorView latents = WithoutMemory(frames, height, width);
      FramePass pass(context, CountFrames(context, latents), /*runs_operations=*/false);
      DecodeFrames(pass, latents, {}, {});
    });
  };
  const bool is_tiled =
      side > kLongestInTiles * tiling_.tile_size || bytes_without_scratch() > tiling_.untiled_bytes;
  if (!is_tiled) return std::nullopt;
  return TileGrid(height, width, tiling_.tile_size, tiling_.overlap);
}

TensorView FrameDecoder::WithoutMemory(int64_t frames, int64_t height, int64_t width) const {
  return TensorView::WithoutMemory({frames, height, width, format_.latent_channels}, DType::kF32,
                                   {});
}

TileFormat FrameDecoder::TileFormatOf(int64_t frames) const {
  return {.frames = 1 + (frames - 1) * format_.temporal_scale, .scale = format_.spatial_scale};
}

int64_t FrameDecoder::NumPieces(int64_t frames, int64_t height, int64_t width) const {
  const std::optional<TileGrid> grid = GridFor(frames, height, width);
  return frames * (grid ? grid->rows() * grid->columns() : 1);
}

size_t FrameDecoder::PlanBytes(int64_t frames, int64_t height, int64_t width, int threads) const {
  return PlannedWorkspace({}, threads, [&](Context& context) {
    Decode(context, WithoutMemory(frames, height, width), {});
  });
}

void FrameDecoder::DecodeWhole(Context& context, ConstTensorView latents, const FrameSink& sink,
                               const std::function<void()>& after_piece) const {
  const Workspace::Scope scope(context.workspace());
  const Workspace::Scope host_scope(context.host_workspace());
  const TileFormat format = TileFormatOf(latents.dim(0));
  TensorView downloaded;
  FrameSink to_host = sink;
  if (context.IsOnGpu()) {
    downloaded = context.host_workspace().Allocate(
        {1, format.scale * latents.dim(1), format.scale * latents.dim(2), format.channels},
        DType::kF32);
    to_host = [&](ConstTensorView pixels) {
      CopyToHost(context, pixels, downloaded);
      sink(downloaded);
    };
  }
  latents = ActivationsOf(context, latents);
  FramePass pass(context, CountFrames(context, latents));
  DecodeFrames(pass, latents, to_host, after_piece);
}

void FrameDecoder::DecodeTiles(Context& context, const TileGrid& grid, ConstTensorView latents,
                               const FrameSink& sink,
                               const std::function<void()>& after_piece) const {
  Workspace& host = context.host_workspace();
  const Workspace::Scope scope(host);
  const TileFormat format = TileFormatOf(latents.dim(0));
  const TensorView film = host.Allocate({format.frames, format.scale * latents.dim(1),
                                         format.scale * latents.dim(2), format.channels},
                                        DType::kF32);
  const TileBlender blender(host, grid, format);
  for (int64_t row = 0; row < grid.rows(); ++row) {
    for (int64_t column = 0; column < grid.columns(); ++column) {
      const Workspace::Scope tile_scope(host);
      const int64_t top = grid.Begin(row), left = grid.Begin(column);
      const ConstTensorView part = latents.Slice(1, top, top + grid.TileHeight(row))
                                       .Slice(2, left, left + grid.TileWidth(column));
      const TensorView window = host.Allocate(part.shape(), DType::kF32);
      if (!context.IsPlanning()) CopyOnHost(part, window);
      const TensorView tile = blender.Tile(row, column);
      int64_t next = 0;
      const FrameSink into_tile = [&](ConstTensorView pixels) {
        CopyOnHost(pixels, tile.Slice(0, next, next + 1));
        ++next;
      };
      DecodeWhole(context, window, into_tile, after_piece);
      if (context.IsPlanning()) return;
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
