// Parity of the Llama text encoder with transformers (tools/fixtures/make_llama_fixtures.py), and
// what it refuses.
#include "models/text/llama_text_encoder.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <vector>

#include "tests/support/dry_run_case.h"
#include "tests/support/fixture.h"

namespace tamias {
namespace {

// Parity of components is asked to 1e-4; fp32 rounding over four layers leaves about 1e-6.
constexpr double kTolerance = 1e-5;

LlamaTextEncoder Load(const Fixture& fixture) {
  return LlamaTextEncoder(LlamaTextConfig::FromJson(fixture.config), fixture.weights);
}

std::vector<int32_t> Ids(ConstTensorView tokens) {
  return {tokens.data<int32_t>(), tokens.data<int32_t>() + tokens.NumElements()};
}

class LlamaTextEncoderParity : public testing::TestWithParam<const char*> {};

TEST_P(LlamaTextEncoderParity, AgreesWithTransformersOnEveryLayer) {
  const Fixture fixture(GetParam());
  const LlamaTextEncoder encoder = Load(fixture);
  Context context;
  int compared = 0;
  for (int index = 0; index < 3; ++index) {
    const ConstTensorView tokens = fixture.cases.Get(fmt::format("{}.tokens", index));
    for (int64_t skip = 0; skip <= encoder.config().num_hidden_layers; ++skip) {
      const std::string name = fmt::format("{}.skip_{}", index, skip);
      if (!fixture.cases.Has(name)) continue;
      SCOPED_TRACE(name);
      const ConstTensorView expected = fixture.cases.Get(name);
      Tensor state(expected.shape(), DType::kF32);
      encoder.Encode(context, tokens, skip, state);
      EXPECT_LT(RelativeL2(state, expected), kTolerance);
      ++compared;
    }
  }
  EXPECT_EQ(compared, 12);
}

TEST_P(LlamaTextEncoderParity, TakesThePromptsOfABatchAlone) {
  const Fixture fixture(GetParam());
  const LlamaTextEncoder encoder = Load(fixture);
  Context context;
  const ConstTensorView tokens = fixture.cases.Get("1.tokens");
  const ConstTensorView expected = fixture.cases.Get("1.skip_2");
  for (int64_t row = 0; row < 2; ++row) {
    const Tensor state = encoder.Encode(context, Ids(tokens.Select(0, row)), 2);
    EXPECT_LT(RelativeL2(state, expected.Slice(0, row, row + 1)), kTolerance);
  }
}

TEST_P(LlamaTextEncoderParity, TakesWhatADryRunTakes) {
  const Fixture fixture(GetParam());
  const LlamaTextEncoder encoder = Load(fixture);
  const std::vector<int32_t> ids(150);
  ExpectRunsDry([&](Context& context) { encoder.Encode(context, ids, 1); });
}

INSTANTIATE_TEST_SUITE_P(, LlamaTextEncoderParity,
                         testing::Values("llama-tiny", "llama-plain-tiny"));

TEST(LlamaTextEncoder, RefusesTokensThatDoNotFit) {
  const Fixture fixture("llama-tiny");
  const LlamaTextEncoder encoder = Load(fixture);
  Context context;
  const auto encode = [&](std::vector<int32_t> ids, int64_t skip) {
    encoder.Encode(context, ids, skip);
  };
  ExpectError("tokens: expected at least 1 per prompt, found 0", [&] { encode({}, 2); });
  ExpectError("layers_to_skip: expected 0 to 4, found 5", [&] { encode({1}, 5); });
  ExpectError("layers_to_skip: expected 0 to 4, found -1", [&] { encode({1}, -1); });
  ExpectError("67", [&] { encode({1, 67}, 2); });
  ExpectError("-1", [&] { encode({-1}, 2); });
  Tensor narrow({1, 1, 41}, DType::kF32);
  const Tensor tokens = Tensor::Zeros({1, 1}, DType::kI32);
  ExpectError("hidden_state", [&] { encoder.Encode(context, tokens, 2, narrow); });
}

TEST(LlamaTextEncoder, RefusesWeightsThatDoNotFitTheConfig) {
  const Fixture fixture("llama-plain-tiny");
  const LlamaTextConfig config = LlamaTextConfig::FromJson(fixture.config);
  const auto refuses = [&](const std::string& text, const auto& change) {
    LlamaTextConfig changed = config;
    change(changed);
    ExpectError(text, [&] { LlamaTextEncoder(changed, fixture.weights); });
  };
  refuses("model.embed_tokens.weight", [](auto& c) { c.vocab_size = 54; });
  refuses("model.layers.3.", [](auto& c) { c.num_hidden_layers = 4; });
  refuses("'model.layers.2...': there are more", [](auto& c) { c.num_hidden_layers = 2; });
  refuses("model.layers.0.self_attn.k_proj.weight", [](auto& c) { c.num_key_value_heads = 2; });
  refuses("model.layers.0.self_attn.q_proj.weight", [](auto& c) { c.head_dim = 8; });
  refuses("model.layers.0.mlp.gate_proj.weight", [](auto& c) { c.intermediate_size = 60; });
  refuses("model.layers.0.self_attn.q_proj.bias", [](auto& c) { c.attention_bias = true; });
  refuses("model.layers.0.mlp.gate_proj.bias", [](auto& c) { c.mlp_bias = true; });
}

TEST(LlamaTextConfig, RefusesBadFieldsByName) {
  const auto refuses = [](const std::string& text, const std::string& json) {
    ExpectError(text,
                [&] { LlamaTextConfig::FromJson(JsonObject::Parse("{" + json + "}", "file")); });
  };
  refuses("file: field 'num_key_value_heads': expected a divisor of num_attention_heads",
          R"("num_attention_heads": 6, "num_key_value_heads": 4)");
  refuses("file: field 'head_dim': expected an even number, found 5", R"("head_dim": 5)");
  refuses("file: field 'head_dim': expected an even number, found 0",
          R"("hidden_size": 4, "num_attention_heads": 6)");
  refuses("file: field 'hidden_size': expected an integer in [1,", R"("hidden_size": 0)");
  refuses("file: field 'num_hidden_layers'", R"("num_hidden_layers": 1001)");
  refuses("file: field 'rms_norm_eps'", R"("rms_norm_eps": -1)");
  refuses("file: field 'hidden_act': activation \"xielu\" is not supported",
          R"("hidden_act": "xielu")");
  refuses("file: field 'attention_bias'", R"("attention_bias": 1)");
  refuses("file: field 'rope_theta'", R"("rope_theta": 0)");
  for (const char* type : {"linear", "dynamic", "yarn", "longrope", "proportional"}) {
    refuses(
        fmt::format("field 'rope_scaling.rope_type': rotary scaling \"{}\" is not supported", type),
        fmt::format(R"("rope_scaling": {{"type": "{}", "factor": 2}})", type));
  }
  refuses("file: field 'rope_parameters.factor': missing",
          R"("rope_parameters": {"rope_type": "llama3"})");
  refuses("file: field 'rope_scaling.high_freq_factor': expected more than low_freq_factor",
          R"("rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4,
                              "high_freq_factor": 4})");
}

}  // namespace
}  // namespace tamias
