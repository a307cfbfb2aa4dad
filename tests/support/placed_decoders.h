// The decoders of the film families where activations have 16 bits, on the CPU and on a GPU, beside
// the same in f32 on the CPU: some twenty roundings one behind another.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "models/autoencoders/autoencoder_kl_hunyuan_video.h"
#include "models/autoencoders/autoencoder_kl_mochi.h"
#include "models/autoencoders/autoencoder_kl_wan.h"
#include "tests/support/dry_run_case.h"
#include "tests/support/film_decoder.h"
#include "tests/support/fixture.h"
#include "tests/support/random_tensors.h"

namespace tamias {

constexpr double kDecoderTolerance = 2e-2;

// The film of random latents by a model of a folder, and what the model takes of memory beside what
// is planned.
template <typename Vae, typename Config, typename Tiling>
void ExpectTheF32Film(const Placement& placement, const std::filesystem::path& folder,
                      const Shape& shape, const Tiling& tiling) {
  const Config config = Config::FromJson(JsonObject::Load(folder / "config.json"));
  const Weights weights = Weights::Open(folder);
  const Tensor latents = RandomTensor(shape, 1);
  Context wide(2), narrow(placement, 2);
  const Tensor expected = DecodeFilm(Vae(config, weights, tiling), wide, latents);
  const Vae vae(config, weights.CopyToDevice(narrow), tiling);
  const double error = RelativeL2(DecodeFilm(vae, narrow, latents), expected);
  testing::Test::RecordProperty("error", std::to_string(error));
  EXPECT_LT(error, kDecoderTolerance);

  Context planning = Context::Planning(placement, 2);
  const Vae planned(config, weights.CopyToDevice(planning), tiling);
  planned.Decode(planning, TensorView::WithoutMemory(latents.shape(), DType::kF32, {}), {});
  ExpectPlanned(planning.workspace().peak_bytes(), narrow, narrow.workspace().peak_bytes());
  ExpectPlanned(planning.host_workspace().peak_bytes(), narrow,
                narrow.host_workspace().peak_bytes());
  if (placement.IsOnGpu()) return;
  EXPECT_EQ(planning.workspace().peak_bytes(), narrow.workspace().peak_bytes());  // to the byte
}

inline const std::filesystem::path kTinyModels =
    std::filesystem::path(TAMIAS_TEST_DATA) / "pipeline";

inline void ExpectTheF32FilmOfWan(const Placement& placement, const FrameTiling& tiling) {
  ExpectTheF32Film<AutoencoderKlWan, AutoencoderKlWanConfig>(
      placement, kTinyModels / "tiny-wan/vae", {2, 3, 5, 4}, tiling);
}

inline void ExpectTheF32FilmOfMochi(const Placement& placement) {
  ExpectTheF32Film<AutoencoderKlMochi, AutoencoderKlMochiConfig>(
      placement, kTinyModels / "tiny-mochi/vae", {2, 2, 3, 12}, FrameTiling{});
}

// In tiles of frames.
inline void ExpectTheF32FilmOfHunyuanVideo(const Placement& placement) {
  ExpectTheF32Film<AutoencoderKlHunyuanVideo, AutoencoderKlHunyuanVideoConfig>(
      placement, std::filesystem::path(TAMIAS_SOURCE_DIR) / "models/demo-video/vae", {3, 2, 2, 16},
      AutoencoderKlHunyuanVideoTiling{.tile_frames = 2, .frame_overlap = 1, .space = {}});
}

}  // namespace tamias
