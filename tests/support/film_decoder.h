// What the tests of the decoders that run frame by frame share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "models/autoencoders/frame_decoder.h"
#include "tests/support/fixture.h"

namespace tamias {

// The tiles of the fixtures: see tools/fixtures/make_video_vae_fixtures.py.
constexpr FrameTiling kSmallTiles = {.tile_size = 4, .overlap = 1, .untiled_bytes = 0};

// The frames of a film, [F, H, W, 3], as the decoder delivers them, one by one.
template <typename Vae>
Tensor DecodeFilm(const Vae& vae, Context& context, ConstTensorView latents) {
  const int64_t frames = 1 + (latents.dim(0) - 1) * vae.config().temporal_scale();
  const int64_t scale = vae.config().spatial_scale();
  Tensor film({frames, scale * latents.dim(1), scale * latents.dim(2), 3}, DType::kF32);
  int64_t frame = 0, pieces = 0;
  vae.Decode(
      context, latents,
      [&](ConstTensorView pixels) {
        ASSERT_LE(frame + pixels.dim(0), frames);
        EXPECT_TRUE(pixels.IsContiguous());
        CopyOnHost(pixels, film.view().Slice(0, frame, frame + pixels.dim(0)));
        frame += pixels.dim(0);
      },
      [&] { ++pieces; });
  EXPECT_EQ(frame, frames);
  EXPECT_EQ(pieces, vae.NumPieces(latents.dim(0), latents.dim(1), latents.dim(2)));
  return film;
}

// All cases of the fixture within `tolerance` of diffusers.
template <typename Vae>
void ExpectParity(const Vae& vae, const Fixture& fixture, double tolerance) {
  for (const std::string index : {"0.", "1.", "2."}) {
    SCOPED_TRACE(index);
    Context context(2);
    const Tensor film = DecodeFilm(vae, context, fixture.cases.Get(index + "latents"));
    EXPECT_LT(RelativeL2(film, fixture.cases.Get(index + "film")), tolerance);
  }
}

template <typename Vae>
void ExpectTiledParity(const Vae& vae, const Fixture& fixture, double tolerance) {
  Context context(2);
  const ConstTensorView latents = fixture.cases.Get("tiled.latents");
  const Tensor film = DecodeFilm(vae, context, latents);
  EXPECT_LT(RelativeL2(film, fixture.cases.Get("tiled.film")), tolerance);
  EXPECT_GT(vae.NumPieces(latents.dim(0), latents.dim(1), latents.dim(2)), 2 * latents.dim(0));
}

// The plan holds for any number of frames, and long films need no more than short ones.
template <typename Vae>
void ExpectPlannedMemory(const Vae& vae, int64_t channels) {
  std::vector<size_t> peaks;
  for (const int64_t frames : {1, 2, 3, 4, 5, 9}) {
    SCOPED_TRACE(frames);
    Context context;
    const int64_t height = 7, width = 12;
    DecodeFilm(vae, context, Tensor::Zeros({frames, height, width, channels}, DType::kF32));
    const size_t peak = context.workspace().peak_bytes();
    const size_t plan = vae.PlanBytes(frames, height, width);
    EXPECT_LE(peak, plan);
    EXPECT_GE(static_cast<double>(peak), 0.9 * static_cast<double>(plan));
    peaks.push_back(peak);
  }
  EXPECT_LE(peaks[0], peaks[3]);
  EXPECT_EQ(peaks[3], peaks[5]);
}

template <typename Vae>
void ExpectPlannedTiledMemory(const Vae& vae, int64_t channels) {
  for (const int64_t frames : {1, 2, 5}) {
    SCOPED_TRACE(frames);
    Context context;
    DecodeFilm(vae, context, Tensor::Zeros({frames, 7, 12, channels}, DType::kF32));
    const auto peak = static_cast<double>(context.workspace().peak_bytes());
    const auto plan = static_cast<double>(vae.PlanBytes(frames, 7, 12));
    EXPECT_LE(peak, plan);
    EXPECT_GE(peak, 0.9 * plan);
  }
}

template <typename Vae>
void ExpectAbsurdPlans(const Vae& vae) {
  EXPECT_EQ(vae.NumPieces(2, 25'000, 25'000), 2 * 1042 * 1042);
  EXPECT_GT(vae.PlanBytes(2, 25'000, 25'000), size_t{1} << 30);
  EXPECT_GT(vae.PlanBytes(2, 1, 25'000), size_t{1} << 20);
  EXPECT_EQ(vae.PlanBytes(1'000'000, 9, 9), vae.PlanBytes(4, 9, 9));
}

// The first frames of a film do not depend on those that follow, and every decode begins anew.
template <typename Vae>
void ExpectCausal(const Vae& vae, const Fixture& fixture) {
  Context context(2);
  const ConstTensorView latents = fixture.cases.Get("2.latents");
  const Tensor whole = DecodeFilm(vae, context, latents);
  const Tensor start = DecodeFilm(vae, context, latents.Slice(0, 0, 2));
  EXPECT_EQ(std::memcmp(whole.data<float>(), start.data<float>(), start.bytes()), 0);
}

}  // namespace tamias
