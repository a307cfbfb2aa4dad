#include "models/autoencoders/autoencoder_kl_hunyuan_video.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/fixture.h"

namespace tamias {
namespace {

// Components are asked to agree within 1e-4; fp32 rounding over some ten layers leaves about 1e-6.
constexpr double kTolerance = 1e-5;

// The tiles of the fixtures: see tools/fixtures/make_hunyuan_video_vae_fixtures.py.
constexpr AutoencoderKlHunyuanVideoTiling kSmallTiles = {
    .tile_frames = 2,
    .frame_overlap = 1,
    .space = {.tile_size = 4, .overlap = 1, .untiled_bytes = 0}};

AutoencoderKlHunyuanVideo Load(const Fixture& fixture,
                               const AutoencoderKlHunyuanVideoTiling& tiling = {}) {
  return AutoencoderKlHunyuanVideo(AutoencoderKlHunyuanVideoConfig::FromJson(fixture.config),
                                   fixture.weights, tiling);
}

// Decodes a case, piece by piece, and compares.
void ExpectAgreement(const Fixture& fixture, const AutoencoderKlHunyuanVideo& vae,
                     const std::string& name, int least_deliveries, int least_pieces) {
  SCOPED_TRACE(name);
  Context context(2);
  const ConstTensorView latents = fixture.cases.Get(name + ".latents");
  const ConstTensorView expected = fixture.cases.Get(name + ".pixels");
  Tensor pixels(expected.shape(), DType::kF32);
  int64_t frames = 0;
  int deliveries = 0, pieces = 0;
  const auto take = [&](ConstTensorView next) {
    ASSERT_LE(frames + next.dim(0), pixels.dim(0));
    EXPECT_TRUE(next.IsContiguous());
    CopyOnHost(next, pixels.view().Slice(0, frames, frames + next.dim(0)));
    frames += next.dim(0);
    ++deliveries;
  };
  vae.Decode(context, latents, take, [&] { ++pieces; });
  EXPECT_EQ(frames, expected.dim(0));
  EXPECT_LT(RelativeL2(pixels, expected), kTolerance);
  EXPECT_GE(deliveries, least_deliveries);
  EXPECT_GE(pieces, least_pieces);
  EXPECT_EQ(pieces, vae.NumPieces(latents.dim(0), latents.dim(1), latents.dim(2)));
}

class HunyuanVideoVaeParity : public testing::TestWithParam<const char*> {
 protected:
  HunyuanVideoVaeParity() : fixture_(GetParam()) {}
  Fixture fixture_;
};

TEST_P(HunyuanVideoVaeParity, AgreesWithDiffusers) {
  const AutoencoderKlHunyuanVideo vae = Load(fixture_);
  ExpectAgreement(fixture_, vae, "picture", 1, 1);
  ExpectAgreement(fixture_, vae, "short", 1, 1);
  ExpectAgreement(fixture_, vae, "film", 2, 2);
}

TEST_P(HunyuanVideoVaeParity, TakesTheWorkspaceItPlans) {
  for (const AutoencoderKlHunyuanVideoTiling& tiling :
       {AutoencoderKlHunyuanVideoTiling(), kSmallTiles,
        AutoencoderKlHunyuanVideoTiling{.tile_frames = 2, .frame_overlap = 0},
        AutoencoderKlHunyuanVideoTiling{.tile_frames = 4, .frame_overlap = 3}}) {
    const AutoencoderKlHunyuanVideo vae = Load(fixture_, tiling);
    for (const int64_t frames : {1, 3, 7}) {
      SCOPED_TRACE(frames);
      Context context;  // of as many threads as plans are made for
      const Tensor latents =
          Tensor::Zeros({frames, 9, 8, vae.config().latent_channels}, DType::kF32);
      int64_t delivered = 0;
      vae.Decode(context, latents, [&](ConstTensorView next) { delivered += next.dim(0); });
      EXPECT_EQ(delivered, 4 * (frames - 1) + 1);
      const auto peak = static_cast<double>(context.workspace().peak_bytes());
      const auto plan = static_cast<double>(vae.PlanBytes(frames, 9, 8));
      EXPECT_LE(peak, plan);
      EXPECT_GE(peak, 0.9 * plan);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, HunyuanVideoVaeParity,
                         testing::Values("hunyuan-video-vae-tiny", "hunyuan-video-vae-plain-tiny"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(HunyuanVideoVae, AgreesWithDiffusersTiling) {
  const Fixture fixture("hunyuan-video-vae-plain-tiny");
  ExpectAgreement(fixture, Load(fixture, kSmallTiles), "tiled", 3, 18);
}

TEST(HunyuanVideoVae, PlansFilmsOfAnyLengthInTheMemoryOfOneTile) {
  const Fixture fixture("hunyuan-video-vae-tiny");
  const AutoencoderKlHunyuanVideo vae = Load(fixture);
  EXPECT_EQ(vae.PlanBytes(1'000'000, 20, 30), vae.PlanBytes(6, 20, 30));
  EXPECT_EQ(vae.NumPieces(1'000'000, 20, 30), 333'333);
  EXPECT_GT(vae.PlanBytes(1000, 250'000, 250'000), size_t{1} << 20);
}

TEST(HunyuanVideoVae, NamesTheArgumentThatDoesNotFit) {
  const Fixture fixture("hunyuan-video-vae-tiny");
  const AutoencoderKlHunyuanVideo vae = Load(fixture);
  Context context(1);
  const auto error = [&](const ConstTensorView& latents) {
    return ErrorOf([&] { vae.Decode(context, latents, [](ConstTensorView) {}); });
  };
  EXPECT_EQ(error(Tensor::Zeros({1, 2, 2, 4}, DType::kF32)),
            "hunyuan video autoencoder: latents: expected shape [any, any, any, 5], found "
            "[1, 2, 2, 4]");
  EXPECT_EQ(error(Tensor::Zeros({1, 2, 2, 5}, DType::kF32).view().Slice(0, 0, 0)),
            "hunyuan video autoencoder: latents: expected at least one value, found [0, 2, 2, 5]");
}

std::string LoadError(const AutoencoderKlHunyuanVideoConfig& config, const Weights& weights) {
  return ErrorOf([&] { AutoencoderKlHunyuanVideo(config, weights); });
}

TEST(HunyuanVideoVae, NamesTheTensorThatDoesNotFit) {
  const Fixture fixture("hunyuan-video-vae-plain-tiny");
  const auto config = AutoencoderKlHunyuanVideoConfig::FromJson(fixture.config);
  auto changed = config;
  changed.layers_per_block = 3;
  EXPECT_THAT(LoadError(changed, fixture.weights),
              testing::HasSubstr("'decoder.up_blocks.0.resnets.3.norm1.weight': missing"));
  changed = config;
  changed.mid_block_add_attention = true;
  EXPECT_THAT(LoadError(changed, fixture.weights),
              testing::HasSubstr("'decoder.mid_block.attentions.0.group_norm.weight': missing"));
  changed = config;
  changed.latent_channels = 5;
  EXPECT_THAT(LoadError(changed, fixture.weights),
              testing::HasSubstr("'post_quant_conv.weight': expected shape [5, 5, 1, 1, 1]"));
}

AutoencoderKlHunyuanVideoConfig Parse(const std::string& text) {
  return AutoencoderKlHunyuanVideoConfig::FromJson(JsonObject::Parse(text, "config.json"));
}

std::string ParseError(const std::string& text) {
  return ErrorOf([&] { Parse(text); });
}

TEST(HunyuanVideoVaeConfig, HasTheDefaultsOfDiffusers) {
  const AutoencoderKlHunyuanVideoConfig config = Parse("{}");
  EXPECT_EQ(config.latent_channels, 16);
  EXPECT_EQ(config.block_out_channels, (std::vector<int64_t>{128, 256, 512, 512}));
  EXPECT_EQ(config.layers_per_block, 2);
  EXPECT_EQ(config.norm_num_groups, 32);
  EXPECT_EQ(config.scaling_factor, 0.476986);
  EXPECT_TRUE(config.mid_block_add_attention);
  EXPECT_EQ(config.spatial_scale(), 8);
}

TEST(HunyuanVideoVaeConfig, NamesTheFieldThatDoesNotFit) {
  const auto names = [](const char* text) { return testing::HasSubstr(text); };
  EXPECT_THAT(ParseError(R"({"latent_channels": 0})"), names("'latent_channels'"));
  EXPECT_THAT(ParseError(R"({"latent_channels": -16})"), names("'latent_channels'"));
  EXPECT_THAT(ParseError(R"({"latent_channels": 9223372036854775807})"),
              names("'latent_channels'"));
  EXPECT_THAT(ParseError(R"({"out_channels": 4})"), names("'out_channels'"));
  EXPECT_THAT(ParseError(R"({"layers_per_block": 1e9})"), names("'layers_per_block'"));
  EXPECT_THAT(ParseError(R"({"norm_num_groups": 0})"), names("'norm_num_groups'"));
  EXPECT_THAT(ParseError(R"({"norm_num_groups": 24})"),
              names("expected multiples of norm_num_groups (24), found 128"));
  EXPECT_THAT(ParseError(R"({"block_out_channels": []})"), names("1 to 8 levels"));
  EXPECT_THAT(ParseError(R"({"block_out_channels": [32, 64]})"), names("3 to 8 levels"));
  EXPECT_THAT(ParseError(R"({"block_out_channels": [32, -64, 64, 64]})"),
              names("'block_out_channels"));
  EXPECT_THAT(ParseError(R"({"scaling_factor": 0})"), names("'scaling_factor'"));
  EXPECT_THAT(ParseError(R"({"temporal_compression_ratio": 8})"),
              names("'temporal_compression_ratio': expected 4, found 8"));
  EXPECT_THAT(ParseError(R"({"spatial_compression_ratio": 16})"),
              names("'spatial_compression_ratio': expected 8, found 16"));
  EXPECT_THAT(ParseError(R"({"act_fn": "gelu"})"), names("'act_fn': expected silu, found gelu"));
  EXPECT_THAT(ParseError(R"({"up_block_types": ["HunyuanVideoUpBlock3D"]})"),
              names("'up_block_types': expected one for each of the 4 levels, found 1"));
  EXPECT_THAT(ParseError(R"({"up_block_types": ["UpDecoderBlock2D"]})"),
              names("'up_block_types': expected HunyuanVideoUpBlock3D, found UpDecoderBlock2D"));
}

}  // namespace
}  // namespace tamias
