// The decoders of all families in bf16 on the CPU beside the same in f32; what they take of memory
// is what is planned.
#include "tests/support/bfloat16.h"
#include "models/autoencoders/autoencoder_kl.h"
#include "tests/support/placed_decoders.h"

namespace tamias {
namespace {

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
  EXPECT_LT(RelativeL2(pixels, expected), kDecoderTolerance);
  EXPECT_LE(narrow.workspace().peak_bytes(),
            vae.PlanBytes(latents.dim(1), latents.dim(2), narrow.placement(), narrow.threads()));
}

TEST(AutoencodersInBFloat16, WanIsNearF32) { ExpectTheF32FilmOfWan(BFloat16OnCpu(), {}); }

TEST(AutoencodersInBFloat16, WanInTilesIsNearF32) {
  ExpectTheF32FilmOfWan(BFloat16OnCpu(), kSmallTiles);
}

TEST(AutoencodersInBFloat16, MochiIsNearF32) { ExpectTheF32FilmOfMochi(BFloat16OnCpu()); }

TEST(AutoencodersInBFloat16, HunyuanVideoIsNearF32) {
  ExpectTheF32FilmOfHunyuanVideo(BFloat16OnCpu());
}

}  // namespace
}  // namespace tamias
