#include <gtest/gtest.h>

#include "models/text/clip_text_encoder.h"
#include "models/text/t5_encoder.h"
#include "tamias/device_memory.h"
#include "tamias/error.h"
#include "tests/support/dry_run_case.h"
#include "tests/support/fixture.h"

namespace tamias {
namespace {

// Parity of components is asked to 1e-4; fp32 rounding over two layers leaves about 1e-6.
constexpr double kTolerance = 1e-5;

std::string Case(int index, const std::string& name) { return std::to_string(index) + "." + name; }

class ClipTextEncoderParity : public testing::TestWithParam<const char*> {};

TEST_P(ClipTextEncoderParity, AgreesWithTransformers) {
  const Fixture fixture(GetParam());
  const ClipTextEncoder encoder(ClipTextConfig::FromJson(fixture.config), fixture.weights);
  Context context;
  int index = 0;
  for (; fixture.cases.Has(Case(index, "tokens")); ++index) {
    SCOPED_TRACE(index);
    const ConstTensorView expected = fixture.cases.Get(Case(index, "last_hidden_state"));
    const ConstTensorView expected_pooled = fixture.cases.Get(Case(index, "pooled"));
    Tensor states(expected.shape(), DType::kF32);
    Tensor pooled(expected_pooled.shape(), DType::kF32);
    const ConstTensorView tokens = fixture.cases.Get(Case(index, "tokens"));
    encoder.Encode(context, tokens, states, pooled);
    EXPECT_LT(RelativeL2(states, expected), kTolerance);
    EXPECT_LT(RelativeL2(pooled, expected_pooled), kTolerance);

    Tensor pooled_alone(expected_pooled.shape(), DType::kF32);
    encoder.Encode(context, tokens, {}, pooled_alone);
    EXPECT_EQ(RelativeL2(pooled_alone, pooled), 0);
  }
  EXPECT_EQ(index, 3);
}

INSTANTIATE_TEST_SUITE_P(, ClipTextEncoderParity, testing::Values("clip-tiny", "clip-legacy-tiny"));

TEST_P(ClipTextEncoderParity, TakesWhatADryRunTakes) {
  const Fixture fixture(GetParam());
  const ClipTextEncoder encoder(ClipTextConfig::FromJson(fixture.config), fixture.weights);
  const ConstTensorView tokens = fixture.cases.Get("0.tokens");
  const Shape state = {tokens.dim(0), tokens.dim(1), encoder.config().hidden_size};
  for (const bool wants_states : {true, false}) {
    ExpectRunsDry([&](Context& context) {
      Tensor states = HostTensor(context, state, DType::kF32);
      Tensor pooled = HostTensor(context, {state[0], state[2]}, DType::kF32);
      encoder.Encode(context, InContext(context, tokens),
                     wants_states ? states.view() : TensorView(), pooled);
    });
  }
}

TEST(ClipTextEncoder, RefusesMoreTokensThanPositions) {
  const Fixture fixture("clip-tiny");
  const ClipTextEncoder encoder(ClipTextConfig::FromJson(fixture.config), fixture.weights);
  Context context;
  const Tensor tokens = Tensor::Zeros({1, 24}, DType::kI32);
  Tensor pooled({1, 48}, DType::kF32);
  EXPECT_THROW(encoder.Encode(context, tokens, {}, pooled), Error);
}

TEST(ClipTextEncoder, RefusesAConfigThatDoesNotFitTheWeights) {
  const Fixture fixture("clip-tiny");
  ClipTextConfig config = ClipTextConfig::FromJson(fixture.config);
  --config.num_hidden_layers;
  ExpectError("config.json's field 'num_hidden_layers'",
              [&] { ClipTextEncoder(config, fixture.weights); });
  ++config.num_hidden_layers;
  config.intermediate_size = 96;
  EXPECT_THROW(ClipTextEncoder(config, fixture.weights), Error);
}

class T5EncoderParity : public testing::TestWithParam<const char*> {};

TEST_P(T5EncoderParity, AgreesWithTransformers) {
  const Fixture fixture(GetParam());
  const T5Encoder encoder(T5Config::FromJson(fixture.config), fixture.weights);
  Context context;
  int index = 0;
  for (; fixture.cases.Has(Case(index, "tokens")); ++index) {
    SCOPED_TRACE(index);
    const ConstTensorView expected = fixture.cases.Get(Case(index, "last_hidden_state"));
    Tensor states(expected.shape(), DType::kF32);
    encoder.Encode(context, fixture.cases.Get(Case(index, "tokens")), states);
    EXPECT_LT(RelativeL2(states, expected), kTolerance);
  }
  EXPECT_EQ(index, 3);
}

TEST_P(T5EncoderParity, TextAloneAgreesWithTextBeforeMaskedPadding) {
  const Fixture fixture(GetParam());
  const T5Encoder encoder(T5Config::FromJson(fixture.config), fixture.weights);
  Context context;
  const ConstTensorView expected = fixture.cases.Get("masked.last_hidden_state");
  Tensor states(expected.shape(), DType::kF32);
  encoder.Encode(context, fixture.cases.Get("masked.tokens"), states);
  EXPECT_LT(RelativeL2(states, expected), kTolerance);
}

TEST_P(T5EncoderParity, TakesWhatADryRunTakes) {
  const Fixture fixture(GetParam());
  const T5Encoder encoder(T5Config::FromJson(fixture.config), fixture.weights);
  const Tensor tokens = Tensor::Zeros({1, 200}, DType::kI32);
  ExpectRunsDry([&](Context& context) {
    Tensor states = HostTensor(context, {1, 200, encoder.config().d_model}, DType::kF32);
    encoder.Encode(context, InContext(context, tokens), states);
  });
}

TEST_P(T5EncoderParity, RefusesMoreLayersThanTheConfigSays) {
  const Fixture fixture(GetParam());
  T5Config config = T5Config::FromJson(fixture.config);
  --config.num_layers;
  ExpectError("config.json's field 'num_layers'", [&] { T5Encoder(config, fixture.weights); });
}

INSTANTIATE_TEST_SUITE_P(, T5EncoderParity,
                         testing::Values("t5-gated-tiny", "t5-relu-tiny", "umt5-tiny"));

TEST(T5Encoder, RefusesAnUnknownActivation) {
  const JsonObject json = JsonObject::Parse(R"({"feed_forward_proj": "gated-swiglu"})", "config");
  EXPECT_THROW(T5Config::FromJson(json), Error);
}

TEST(RelativePositionBucket, SeparatesSignsAndSaturates) {
  EXPECT_EQ(RelativePositionBucket(0, 32, 128), 0);
  EXPECT_EQ(RelativePositionBucket(-7, 32, 128), 7);
  EXPECT_EQ(RelativePositionBucket(7, 32, 128), 23);
  EXPECT_EQ(RelativePositionBucket(-8, 32, 128), 8);
  EXPECT_EQ(RelativePositionBucket(-127, 32, 128), 15);
  EXPECT_EQ(RelativePositionBucket(1'000'000, 32, 128), 31);
}

}  // namespace
}  // namespace tamias
