#include "models/autoencoders/autoencoder_kl_wan_encoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tamias/error.h"
#include "tests/support/fixture.h"

namespace tamias {
namespace {

// Components are asked to agree within 1e-4; fp32 rounding over some ten layers leaves about 1e-6.
constexpr double kTolerance = 1e-5;

// film [F, H, W, 3].
FrameSource FramesOf(ConstTensorView film) {
  return [film](int64_t frame, TensorView pixels) {
    CopyOnHost(film.Slice(0, frame, frame + 1), pixels);
  };
}

class WanAutoencoderEncoder : public testing::TestWithParam<const char*> {
 protected:
  // The latents of as many frames as `shape` has.
  Tensor Encode(Context& context, ConstTensorView film, const Shape& shape) const {
    Tensor latents(shape, DType::kF32);
    int64_t pieces = 0;
    vae_.Encode(context, FramesOf(film), latents, [&] { ++pieces; });
    EXPECT_EQ(pieces, shape[0]);
    return latents;
  }

  Fixture fixture_{GetParam()};
  AutoencoderKlWanConfig config_ = AutoencoderKlWanConfig::FromJson(fixture_.config);
  AutoencoderKlWanEncoder vae_{config_, fixture_.weights};
};

TEST_P(WanAutoencoderEncoder, AgreesWithDiffusers) {
  for (const std::string index : {"0.", "1.", "2."}) {
    SCOPED_TRACE(index);
    Context context(2);
    const ConstTensorView expected = fixture_.cases.Get(index + "latents");
    const Tensor latents = Encode(context, fixture_.cases.Get(index + "film"), expected.shape());
    const double error = RelativeL2(latents, expected);
    RecordProperty("relative_l2", std::to_string(error));
    EXPECT_LT(error, kTolerance);
  }
}

TEST_P(WanAutoencoderEncoder, IsCausalAndKeepsNothing) {
  Context context(2);
  const ConstTensorView film = fixture_.cases.Get("2.film");
  const Shape shape = fixture_.cases.Get("2.latents").shape();
  const Tensor whole = Encode(context, film, shape);
  const Tensor start = Encode(context, film, {2, shape[1], shape[2], shape[3]});
  EXPECT_EQ(std::memcmp(whole.data<float>(), start.data<float>(), start.bytes()), 0);
}

TEST_P(WanAutoencoderEncoder, TakesTheWorkspaceItPlansWhateverTheLength) {
  const int64_t height = 7, width = 12, scale = config_.spatial_scale();
  const Tensor film = Tensor::Zeros(
      {1 + 8 * config_.temporal_scale(), scale * height, scale * width, 3}, DType::kF32);
  std::vector<size_t> peaks;
  for (const int64_t frames : {1, 2, 3, 4, 5, 9}) {
    SCOPED_TRACE(frames);
    Context context;
    Encode(context, film, {frames, height, width, config_.z_dim});
    const size_t peak = context.workspace().peak_bytes();
    const size_t plan = vae_.PlanBytes(frames, height, width);
    EXPECT_LE(peak, plan);
    EXPECT_GE(static_cast<double>(peak), 0.9 * static_cast<double>(plan));
    peaks.push_back(peak);
  }
  EXPECT_LE(peaks[0], peaks[3]);
  EXPECT_EQ(peaks[3], peaks[5]);
}

TEST_P(WanAutoencoderEncoder, PlansAbsurdSizesWithoutTakingTheirMemory) {
  EXPECT_GT(vae_.PlanBytes(2, 25'000, 25'000), size_t{1} << 30);
  EXPECT_GT(vae_.PlanBytes(2, 1, 25'000), size_t{1} << 20);
  EXPECT_EQ(vae_.PlanBytes(1'000'000, 9, 9), vae_.PlanBytes(4, 9, 9));
}

INSTANTIATE_TEST_SUITE_P(Fixtures, WanAutoencoderEncoder,
                         testing::Values("wan-vae-encoder-tiny", "wan-vae-encoder-wide-tiny"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(AutoencoderKlWanEncoder, NamesTheTensorOrArgumentThatDoesNotFit) {
  const Fixture fixture("wan-vae-encoder-tiny");
  const AutoencoderKlWanConfig config = AutoencoderKlWanConfig::FromJson(fixture.config);
  const auto error = [&](const AutoencoderKlWanConfig& changed) {
    return ErrorOf([&] { AutoencoderKlWanEncoder(changed, fixture.weights); });
  };
  AutoencoderKlWanConfig changed = config;
  changed.base_dim = 6;
  EXPECT_THAT(error(changed), testing::HasSubstr("encoder.conv_in.weight"));
  changed = config;
  changed.num_res_blocks = 2;
  EXPECT_THAT(error(changed), testing::HasSubstr("encoder.down_blocks.1.norm1.gamma"));
  changed = config;
  changed.z_dim = 5;
  EXPECT_THAT(error(changed), testing::HasSubstr("encoder.conv_out.weight"));
  const Fixture decoder("wan-vae-tiny");
  EXPECT_THAT(ErrorOf([&] { AutoencoderKlWanEncoder(config, decoder.weights); }),
              testing::HasSubstr("encoder.conv_in.weight"));
  Context context(1);
  const AutoencoderKlWanEncoder vae(config, fixture.weights);
  const FrameSource source = [](int64_t, TensorView) {};
  EXPECT_THROW(vae.Encode(context, source, Tensor::Zeros({2, 3, 4, 5}, DType::kF32)), Error);
  EXPECT_THROW(vae.Encode(context, source, Tensor::Zeros({3, 4, 4}, DType::kF32)), Error);
}

}  // namespace
}  // namespace tamias
