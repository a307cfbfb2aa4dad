#include "models/autoencoders/autoencoder_kl_mochi.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tamias/error.h"
#include "tests/support/film_decoder.h"

namespace tamias {
namespace {

// Components are asked to agree within 1e-4; fp32 rounding over some ten layers leaves about 1e-6.
constexpr double kTolerance = 1e-5;

class MochiAutoencoder : public testing::TestWithParam<const char*> {
 protected:
  MochiAutoencoder()
      : fixture_(GetParam()),
        vae_(AutoencoderKlMochiConfig::FromJson(fixture_.config), fixture_.weights),
        tiled_vae_(vae_.config(), fixture_.weights, kSmallTiles) {}

  Fixture fixture_;
  AutoencoderKlMochi vae_, tiled_vae_;
};

TEST_P(MochiAutoencoder, AgreesWithDiffusers) { ExpectParity(vae_, fixture_, kTolerance); }

TEST_P(MochiAutoencoder, TakesTheWorkspaceItPlansWhateverTheLength) {
  ExpectPlannedMemory(vae_, vae_.config().latent_channels);
  ExpectPlannedTiledMemory(tiled_vae_, vae_.config().latent_channels);
}

TEST_P(MochiAutoencoder, PlansAbsurdSizesWithoutTakingTheirMemory) { ExpectAbsurdPlans(vae_); }

TEST_P(MochiAutoencoder, IsCausalAndKeepsNothing) { ExpectCausal(vae_, fixture_); }

INSTANTIATE_TEST_SUITE_P(Fixtures, MochiAutoencoder,
                         testing::Values("mochi-vae-tiny", "mochi-vae-deep-tiny"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(AutoencoderKlMochi, AgreesWithDiffusersTiling) {
  const Fixture fixture("mochi-vae-tiny");
  const AutoencoderKlMochi vae(AutoencoderKlMochiConfig::FromJson(fixture.config), fixture.weights,
                               kSmallTiles);
  ExpectTiledParity(vae, fixture, kTolerance);
}

TEST(AutoencoderKlMochi, NamesTheTensorOrArgumentThatDoesNotFit) {
  const Fixture fixture("mochi-vae-tiny");
  const AutoencoderKlMochiConfig config = AutoencoderKlMochiConfig::FromJson(fixture.config);
  const auto error = [&](const AutoencoderKlMochiConfig& changed) {
    return ErrorOf([&] { AutoencoderKlMochi(changed, fixture.weights); });
  };
  AutoencoderKlMochiConfig changed = config;
  changed.layers_per_block = {2, 0, 0};
  EXPECT_THAT(error(changed), testing::HasSubstr("decoder.block_out.resnets.1.norm1"));
  changed = config;
  changed.spatial_expansions = {3};
  EXPECT_THAT(error(changed), testing::HasSubstr("decoder.up_blocks.0.proj.weight"));
  changed = config;
  changed.latent_channels = 4;
  EXPECT_THAT(error(changed), testing::HasSubstr("decoder.conv_in.weight"));
  Context context(1);
  const AutoencoderKlMochi vae(config, fixture.weights);
  const FrameSink sink = [](ConstTensorView) {};
  EXPECT_THROW(vae.Decode(context, Tensor::Zeros({2, 3, 4, 6}, DType::kF32), sink), Error);
  EXPECT_THROW(vae.Decode(context, Tensor::Zeros({2, 3, 5}, DType::kF32), sink), Error);
  EXPECT_THROW(vae.Decode(context, Tensor::Zeros({0, 3, 4, 5}, DType::kF32), sink), Error);
}

AutoencoderKlMochiConfig Parse(const std::string& text) {
  return AutoencoderKlMochiConfig::FromJson(JsonObject::Parse(text, "vae/config.json"));
}

std::string ParseError(const std::string& text) {
  return ErrorOf([&] { Parse(text); });
}

TEST(AutoencoderKlMochiConfig, HasTheDefaultsOfDiffusers) {
  const AutoencoderKlMochiConfig config = Parse(R"({"latents_mean": null})");
  EXPECT_EQ(config.latent_channels, 12);
  EXPECT_EQ(config.spatial_scale(), 8);
  EXPECT_EQ(config.temporal_scale(), 6);
  EXPECT_EQ(config.scaling_factor, 1);
  EXPECT_TRUE(config.latents_mean.empty());
  EXPECT_TRUE(config.latents_std.empty());
}

TEST(AutoencoderKlMochiConfig, ReadsTheStatisticsOfTheLatents) {
  const AutoencoderKlMochiConfig config = Parse(
      R"({"latent_channels": 2, "latents_mean": [0.5, -1], "latents_std": [1, 2], "scaling_factor": 4})");
  EXPECT_EQ(config.latents_mean, (std::vector<double>{0.5, -1}));
  EXPECT_EQ(config.latents_std, (std::vector<double>{1, 2}));
  EXPECT_EQ(config.scaling_factor, 4);
}

TEST(AutoencoderKlMochiConfig, NamesTheFieldThatDoesNotFit) {
  EXPECT_EQ(ParseError(R"({"act_fn": "swish"})"), "");
  EXPECT_EQ(ParseError(R"({"act_fn": "relu"})"),
            "vae/config.json: field 'act_fn': expected silu, found relu");
  EXPECT_EQ(ParseError(R"({"out_channels": 4})"),
            "vae/config.json: field 'out_channels': expected 3, found 4");
  EXPECT_THAT(ParseError(R"({"decoder_block_out_channels": [48, 64, 64, 64]})"),
              testing::HasSubstr("expected multiples of 32, found 48"));
  EXPECT_THAT(ParseError(R"({"decoder_block_out_channels": []})"),
              testing::HasSubstr("1 to 8 levels"));
  EXPECT_THAT(ParseError(R"({"layers_per_block": [3, 3]})"),
              testing::HasSubstr("'layers_per_block': expected 5 values, found 2"));
  EXPECT_THAT(ParseError(R"({"temporal_expansions": [1, 2, 3, 4]})"),
              testing::HasSubstr("'temporal_expansions': expected 3 values, found 4"));
  EXPECT_THAT(ParseError(R"({"spatial_expansions": [2, 2, 100]})"),
              testing::HasSubstr("spatial_expansions[2]"));
  EXPECT_THAT(ParseError(R"({"latents_std": [1]})"),
              testing::HasSubstr("'latents_std': expected 12 values, found 1"));
}

}  // namespace
}  // namespace tamias
