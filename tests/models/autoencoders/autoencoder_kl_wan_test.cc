#include "models/autoencoders/autoencoder_kl_wan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tamias/error.h"
#include "tests/support/film_decoder.h"

namespace tamias {
namespace {

// Components are asked to agree within 1e-4; fp32 rounding over some ten layers leaves about 1e-6.
constexpr double kTolerance = 1e-5;

class WanAutoencoder : public testing::TestWithParam<const char*> {
 protected:
  WanAutoencoder()
      : fixture_(GetParam()),
        vae_(AutoencoderKlWanConfig::FromJson(fixture_.config), fixture_.weights),
        tiled_vae_(vae_.config(), fixture_.weights, kSmallTiles) {}

  Fixture fixture_;
  AutoencoderKlWan vae_, tiled_vae_;
};

TEST_P(WanAutoencoder, AgreesWithDiffusers) { ExpectParity(vae_, fixture_, kTolerance); }

TEST_P(WanAutoencoder, TakesTheWorkspaceItPlansWhateverTheLength) {
  ExpectPlannedMemory(vae_, vae_.config().z_dim);
  ExpectPlannedTiledMemory(tiled_vae_, vae_.config().z_dim);
}

TEST_P(WanAutoencoder, AgreesWithDiffusersTiling) {
  ExpectTiledParity(tiled_vae_, fixture_, kTolerance);
}

TEST_P(WanAutoencoder, PlansAbsurdSizesWithoutTakingTheirMemory) { ExpectAbsurdPlans(vae_); }

TEST_P(WanAutoencoder, IsCausalAndKeepsNothing) { ExpectCausal(vae_, fixture_); }

INSTANTIATE_TEST_SUITE_P(Fixtures, WanAutoencoder,
                         testing::Values("wan-vae-tiny", "wan-vae-wide-tiny"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(AutoencoderKlWan, NamesTheTensorOrArgumentThatDoesNotFit) {
  const Fixture fixture("wan-vae-tiny");
  const AutoencoderKlWanConfig config = AutoencoderKlWanConfig::FromJson(fixture.config);
  const auto error = [&](const AutoencoderKlWanConfig& changed) {
    return ErrorOf([&] { AutoencoderKlWan(changed, fixture.weights); });
  };
  AutoencoderKlWanConfig changed = config;
  changed.dim_mult = {1, 2, 4};
  EXPECT_THAT(error(changed), testing::HasSubstr("decoder.conv_in.weight"));
  changed = config;
  changed.num_res_blocks = 2;
  EXPECT_THAT(error(changed), testing::HasSubstr("decoder.up_blocks.0.resnets.2.norm1.gamma"));
  changed = config;
  changed.dim_mult = {1, 1, 2, 3};
  changed.temporal_downsample = {false, true, true};
  EXPECT_NE(error(changed), "");
  Context context(1);
  const AutoencoderKlWan vae(config, fixture.weights);
  const FrameSink sink = [](ConstTensorView) {};
  EXPECT_THROW(vae.Decode(context, Tensor::Zeros({2, 3, 4, 5}, DType::kF32), sink), Error);
  EXPECT_THROW(vae.Decode(context, Tensor::Zeros({2, 3, 4}, DType::kF32), sink), Error);
  EXPECT_THROW(vae.Decode(context, Tensor::Zeros({0, 3, 4, 4}, DType::kF32), sink), Error);
}

constexpr const char* kStatistics = R"("z_dim": 1, "latents_mean": [0.5], "latents_std": [2])";

AutoencoderKlWanConfig Parse(const std::string& fields) {
  return AutoencoderKlWanConfig::FromJson(JsonObject::Parse("{" + fields + "}", "vae/config.json"));
}

std::string ParseError(const std::string& fields) {
  return ErrorOf([&] { Parse(std::string(kStatistics) + ", " + fields); });
}

TEST(AutoencoderKlWanConfig, HasTheDefaultsOfDiffusers) {
  const AutoencoderKlWanConfig config =
      Parse(std::string(kStatistics) + R"(, "decoder_base_dim": null, "patch_size": null)");
  EXPECT_EQ(config.decoder_base_dim, 96);
  EXPECT_EQ(config.spatial_scale(), 8);
  EXPECT_EQ(config.temporal_scale(), 4);
  EXPECT_EQ(config.Channels(0), 384);
  EXPECT_EQ(config.latents_std, std::vector<double>{2});
}

TEST(AutoencoderKlWanConfig, RefusesWhatIsNotWan21) {
  EXPECT_EQ(ParseError(R"("is_residual": true)"),
            "vae/config.json: field 'is_residual': only the autoencoder of Wan 2.1 is supported, "
            "found true");
  EXPECT_EQ(ParseError(R"("patch_size": 2)"),
            "vae/config.json: field 'patch_size': only the autoencoder of Wan 2.1 is supported, "
            "found 2");
  EXPECT_EQ(ParseError(R"("out_channels": 12)"),
            "vae/config.json: field 'out_channels': only the autoencoder of Wan 2.1 is supported, "
            "found 12");
  ExpectError(ErrorCode::kUnsupported, "is_residual",
              [] { Parse(std::string(kStatistics) + R"(, "is_residual": true)"); });
}

TEST(AutoencoderKlWanConfig, NamesTheFieldThatDoesNotFit) {
  EXPECT_EQ(ParseError(R"("is_residual": false)"), "");
  EXPECT_THAT(ParseError(R"("dim_mult": [])"), testing::HasSubstr("'dim_mult': expected 1 to 8"));
  EXPECT_THAT(ParseError(R"("dim_mult": [1, 1000])"), testing::HasSubstr("found 96000"));
  EXPECT_THAT(ParseError(R"("base_dim": 1)"), testing::HasSubstr("2 to 65536 channels, found 1"));
  EXPECT_THAT(ParseError(R"("temperal_downsample": [true])"),
              testing::HasSubstr("'temperal_downsample': expected 3 values, found 1"));
  EXPECT_THAT(ParseError(R"("temperal_downsample": [1, 0, 1])"),
              testing::HasSubstr("'temperal_downsample[0]': expected true or false"));
  EXPECT_THAT(ParseError(R"("scale_factor_spatial": 16)"),
              testing::HasSubstr("'scale_factor_spatial': expected 8"));
  EXPECT_THAT(ParseError(R"("scale_factor_temporal": 8)"),
              testing::HasSubstr("'scale_factor_temporal': expected 4"));
  EXPECT_THROW(Parse(R"("z_dim": 2, "latents_mean": [0], "latents_std": [1, 1])"), Error);
  EXPECT_THROW(Parse(R"("z_dim": 1, "latents_mean": [0], "latents_std": [0])"), Error);
  EXPECT_THROW(Parse(""), Error);
}

}  // namespace
}  // namespace tamias
