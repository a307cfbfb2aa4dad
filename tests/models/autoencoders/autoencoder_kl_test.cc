#include "models/autoencoders/autoencoder_kl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tamias/error.h"
#include "tests/support/fixture.h"
#include "tests/support/renamed_weights.h"

namespace tamias {
namespace {

// Components are asked to agree within 1e-4; fp32 rounding over some ten layers leaves about 1e-6.
constexpr double kTolerance = 1e-5;

class AutoencoderParity : public testing::TestWithParam<const char*> {
 protected:
  AutoencoderParity() : fixture_(GetParam()) {}

  AutoencoderKl Load(const KlTiling& tiling = {}) const {
    return AutoencoderKl(AutoencoderKlConfig::FromJson(fixture_.config), fixture_.weights, tiling);
  }
  // Tiles of the fixture's sample_size, whatever the memory.
  KlTiling SmallTiles() const {
    const int64_t size = fixture_.config.Int("sample_size") / Load().config().spatial_scale();
    return {.tile_size = size, .overlap = size / 4, .untiled_bytes = 0};
  }

  Fixture fixture_;
};

TEST_P(AutoencoderParity, AgreesWithDiffusers) {
  const AutoencoderKl vae = Load();
  for (const std::string index : {"0.", "1."}) {
    SCOPED_TRACE(index);
    Context context(2);
    const ConstTensorView latents = fixture_.cases.Get(index + "latents");
    const ConstTensorView expected = fixture_.cases.Get(index + "pixels");
    Tensor pixels(expected.shape(), DType::kF32);
    int tiles = 0;
    vae.Decode(context, latents, pixels, [&] { ++tiles; });
    EXPECT_LT(RelativeL2(pixels, expected), kTolerance);
    EXPECT_EQ(tiles, latents.dim(0));
    EXPECT_EQ(vae.NumTiles(latents.dim(1), latents.dim(2)), 1);
  }
}

// Older checkpoints name the projections of attention otherwise, and may have them as convolutions.
TEST(AutoencoderKl, ReadsTheOldNamesOfItsAttention) {
  const Fixture fixture("vae-attention-tiny");
  for (const bool as_convolutions : {false, true}) {
    int renamed = 0;
    const RenamedWeights weights(fixture.weights, [&](std::string name, ConstTensorView tensor) {
      for (const auto& [now, once] : {std::pair<std::string, std::string>{"to_q", "query"},
                                      {"to_k", "key"},
                                      {"to_v", "value"},
                                      {"to_out.0", "proj_attn"}}) {
        const size_t at = name.find(".attentions.0." + now + ".");
        if (at == std::string::npos) continue;
        name.replace(at, now.size() + 14, ".attentions.0." + once);
        ++renamed;
        if (as_convolutions && tensor.rank() == 2) {
          tensor = tensor.Reshape({tensor.dim(0), tensor.dim(1), 1, 1});
        }
      }
      return NamedTensor{name, tensor};
    });
    EXPECT_GE(renamed, 8);
    const AutoencoderKl vae(AutoencoderKlConfig::FromJson(fixture.config), *weights);
    Context context(2);
    const ConstTensorView expected = fixture.cases.Get("0.pixels");
    Tensor pixels(expected.shape(), DType::kF32);
    vae.Decode(context, fixture.cases.Get("0.latents"), pixels);
    EXPECT_LT(RelativeL2(pixels, expected), kTolerance);
  }
}

TEST(AutoencoderKl, NamesTheAttentionThatItMisses) {
  const Fixture fixture("vae-attention-tiny");
  const RenamedWeights weights(fixture.weights, [](std::string name, ConstTensorView tensor) {
    if (const size_t at = name.find("to_k"); at != std::string::npos) name.replace(at, 4, "k");
    return NamedTensor{name, tensor};
  });
  EXPECT_THAT(
      ErrorOf([&] { AutoencoderKl(AutoencoderKlConfig::FromJson(fixture.config), *weights); }),
      testing::HasSubstr("'decoder.mid_block.attentions.0.to_k.weight': missing"));
}

TEST_P(AutoencoderParity, AgreesWithDiffusersTiling) {
  const AutoencoderKl vae = Load(SmallTiles());
  Context context(2);
  const ConstTensorView latents = fixture_.cases.Get("0.tiled_latents");
  const ConstTensorView expected = fixture_.cases.Get("0.tiled_pixels");
  Tensor pixels(expected.shape(), DType::kF32);
  int tiles = 0;
  vae.Decode(context, latents, pixels, [&] { ++tiles; });
  EXPECT_LT(RelativeL2(pixels, expected), kTolerance);
  EXPECT_GT(tiles, 2);
  EXPECT_EQ(tiles, vae.NumTiles(latents.dim(1), latents.dim(2)));
}

TEST_P(AutoencoderParity, TakesTheWorkspaceItPlans) {
  for (const KlTiling& tiling : {KlTiling(), SmallTiles()}) {
    const AutoencoderKl vae = Load(tiling);
    for (const int64_t height : {7, 32}) {
      SCOPED_TRACE(height);
      Context context;
      const int64_t scale = vae.config().spatial_scale();
      const Tensor latents =
          Tensor::Zeros({1, height, 40, vae.config().latent_channels}, DType::kF32);
      Tensor pixels({1, scale * height, scale * 40, 3}, DType::kF32);
      vae.Decode(context, latents, pixels);
      const auto peak = static_cast<double>(context.workspace().peak_bytes());
      const auto plan = static_cast<double>(vae.PlanBytes(height, 40));
      EXPECT_LE(peak, plan);
      EXPECT_GE(peak, 0.8 * plan);  // weights of several layouts weigh more in a tiny model
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, AutoencoderParity,
                         testing::Values("vae-attention-tiny", "vae-plain-tiny"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(AutoencoderKl, PlansAbsurdSizesWithoutTakingTheirMemory) {
  const Fixture fixture("vae-plain-tiny");
  const AutoencoderKl vae(AutoencoderKlConfig::FromJson(fixture.config), fixture.weights);
  for (const auto& [height, width] :
       {std::pair<int64_t, int64_t>{250'000, 250'000}, {2, 250'000}}) {
    EXPECT_GT(vae.NumTiles(height, width), 2000);
    EXPECT_GT(vae.PlanBytes(height, width), size_t{1} << 20);
    EXPECT_LT(vae.PlanBytes(height, width), size_t{1} << 40);  // two rows of tiles and one pass
  }
}

AutoencoderKlConfig Parse(const std::string& text) {
  return AutoencoderKlConfig::FromJson(JsonObject::Parse(text, "config.json"));
}

std::string ParseError(const std::string& text) {
  return ErrorOf([&] { Parse(text); });
}

TEST(AutoencoderKlConfig, HasTheDefaultsOfDiffusers) {
  const AutoencoderKlConfig config = Parse("{\"shift_factor\": null}");
  EXPECT_EQ(config.latent_channels, 4);
  EXPECT_EQ(config.scaling_factor, 0.18215);
  EXPECT_EQ(config.shift_factor, 0);
  EXPECT_TRUE(config.use_post_quant_conv);
  EXPECT_TRUE(config.mid_block_add_attention);
}

TEST(AutoencoderKlConfig, NamesTheFieldThatDoesNotFit) {
  EXPECT_THAT(ParseError(R"({"block_out_channels": [48], "norm_num_groups": 5})"),
              testing::HasSubstr("expected multiples of norm_num_groups (5), found 48"));
  EXPECT_THAT(ParseError(R"({"block_out_channels": []})"), testing::HasSubstr("1 to 8 levels"));
  EXPECT_THAT(ParseError(R"({"act_fn": "relu"})"), testing::HasSubstr("act_fn"));
  EXPECT_THAT(ParseError(R"({"up_block_types": ["AttnUpDecoderBlock2D"]})"),
              testing::HasSubstr("up_block_types"));
}

TEST(AutoencoderKl, NamesTheArgumentThatDoesNotFit) {
  const Fixture fixture("vae-plain-tiny");
  const AutoencoderKl vae(AutoencoderKlConfig::FromJson(fixture.config), fixture.weights);
  Context context(1);
  Tensor latents = Tensor::Zeros({1, 2, 2, 8}, DType::kF32), pixels({1, 8, 8, 3}, DType::kF32);
  EXPECT_THROW(vae.Decode(context, pixels, pixels), Error);
  EXPECT_THROW(vae.Decode(context, latents, latents), Error);
  AutoencoderKlConfig wider = vae.config();
  wider.block_out_channels = {4, 8, 16};
  EXPECT_THROW(AutoencoderKl(wider, fixture.weights), Error);
}

}  // namespace
}  // namespace tamias
