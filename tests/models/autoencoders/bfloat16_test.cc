// The decoders of all families in bf16 on the CPU beside the same in f32: some twenty roundings one
// behind another. What they take of memory is what is planned.
#include <gtest/gtest.h>

#include "base/dry_run.h"
#include "models/autoencoders/autoencoder_kl.h"
#include "models/autoencoders/autoencoder_kl_hunyuan_video.h"
#include "models/autoencoders/autoencoder_kl_mochi.h"
#include "models/autoencoders/autoencoder_kl_wan.h"
#include "tests/support/bfloat16.h"
#include "tests/support/film_decoder.h"
#include "tests/support/fixture.h"
#include "tests/support/random_tensors.h"

namespace tamias {
namespace {

constexpr double kTolerance = 2e-2;
const std::filesystem::path kTinyModels = std::filesystem::path(TAMIAS_TEST_DATA) / "pipeline";

template <typename Vae, typename Config, typename Tiling>
void ExpectNearF32(const std::filesystem::path& folder, const Shape& shape, const Tiling& tiling) {
  const Config config = Config::FromJson(JsonObject::Load(folder / "config.json"));
  const Weights weights = Weights::Open(folder);
  const Tensor latents = RandomTensor(shape, 1);
  Context wide(2), narrow(BFloat16OnCpu(), 2);
  const Tensor expected = DecodeFilm(Vae(config, weights, tiling), wide, latents);
  const Vae vae(config, weights.CopyToDevice(narrow), tiling);
  EXPECT_LT(RelativeL2(DecodeFilm(vae, narrow, latents), expected), kTolerance);
  EXPECT_EQ(narrow.workspace().peak_bytes(),
            PlannedWorkspace(narrow.placement(), narrow.threads(), [&](Context& planned) {
              vae.Decode(planned, TensorView::WithoutMemory(latents.shape(), DType::kF32, {}), {});
            }));
}

TEST(AutoencodersInBFloat16, FluxIsNearF32) {
  const Fixture fixture("vae-attention-tiny");
  const auto config = AutoencoderKlConfig::FromJson(fixture.config);
  const ConstTensorView latents = fixture.cases.Get("0.latents");
  const Shape shape = fixture.cases.Get("0.pixels").shape();
  Tensor expected(shape, DType::kF32), pixels(shape, DType::kF32);
  Context wide(2), narrow(BFloat16OnCpu(), 2);
  AutoencoderKl(config, fixture.weights).Decode(wide, latents, expected);
  const AutoencoderKl vae(config, fixture.weights.CopyToDevice(narrow));
  vae.Decode(narrow, latents, pixels);
  EXPECT_LT(RelativeL2(pixels, expected), kTolerance);
  EXPECT_LE(narrow.workspace().peak_bytes(),
            vae.PlanBytes(latents.dim(1), latents.dim(2), narrow.placement(), narrow.threads()));
}

TEST(AutoencodersInBFloat16, WanIsNearF32) {
  ExpectNearF32<AutoencoderKlWan, AutoencoderKlWanConfig>(kTinyModels / "tiny-wan/vae",
                                                          {2, 3, 5, 4}, FrameTiling{});
}

TEST(AutoencodersInBFloat16, WanInTilesIsNearF32) {
  ExpectNearF32<AutoencoderKlWan, AutoencoderKlWanConfig>(kTinyModels / "tiny-wan/vae",
                                                          {2, 3, 5, 4}, kSmallTiles);
}

TEST(AutoencodersInBFloat16, MochiIsNearF32) {
  ExpectNearF32<AutoencoderKlMochi, AutoencoderKlMochiConfig>(kTinyModels / "tiny-mochi/vae",
                                                              {2, 2, 3, 12}, FrameTiling{});
}

TEST(AutoencodersInBFloat16, HunyuanVideoIsNearF32) {
  ExpectNearF32<AutoencoderKlHunyuanVideo, AutoencoderKlHunyuanVideoConfig>(
      std::filesystem::path(TAMIAS_SOURCE_DIR) / "models/demo-video/vae", {3, 2, 2, 16},
      AutoencoderKlHunyuanVideoTiling{.tile_frames = 2, .frame_overlap = 1, .space = {}});
}

}  // namespace
}  // namespace tamias
