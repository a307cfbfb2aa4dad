#include "models/transformers/wan_transformer.h"

#include <fmt/format.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "models/transformers/rotary_positions.h"
#include "ops/elementwise.h"
#include "tests/support/dry_run_case.h"
#include "tests/support/random_tensors.h"
#include "tests/support/transformer_case.h"

namespace tamias {
namespace {

// Components are asked to agree within 1e-4; fp32 rounding over a few blocks leaves about 1e-6.
constexpr double kTolerance = 2e-5;

class Case : public TransformerCase {
 public:
  using TransformerCase::TransformerCase;
  WanTransformerInputs Inputs() const {
    return {.hidden_states = Get("hidden_states"),
            .encoder_hidden_states = Get("encoder_hidden_states"),
            .encoder_hidden_states_image = Has("encoder_hidden_states_image")
                                               ? Get("encoder_hidden_states_image")
                                               : ConstTensorView(),
            .timestep = Scalar("timestep"),
            .rotary_cos = Get("rotary_cos"),
            .rotary_sin = Get("rotary_sin")};
  }
};

WanTransformer Load(const Fixture& fixture) {
  return {WanTransformerConfig::FromJson(fixture.config), fixture.weights};
}

class WanTransformerParity : public testing::TestWithParam<const char*> {};

TEST_P(WanTransformerParity, AgreesWithDiffusers) {
  const Fixture fixture(GetParam());
  const WanTransformer model = Load(fixture);
  DensePasses passes;
  const auto predict = [&](const Case& recorded) {
    return passes.Predict(model, recorded.Inputs(), recorded.output().shape());
  };
  EXPECT_EQ(ExpectCasesAgree<Case>(fixture, kTolerance, predict), 2);
}

TEST_P(WanTransformerParity, AgreesWithDiffusersInBFloat16) {
  ExpectCasesAgreeInBFloat16<WanTransformer, WanTransformerConfig, Case>(
      Fixture(GetParam()),
      [](Context&, const WanTransformer&, const Case& recorded) { return recorded.Inputs(); });
}

TEST_P(WanTransformerParity, RotaryPositionsAgreeWithDiffusers) {
  const Fixture fixture(GetParam());
  const WanTransformerConfig config = WanTransformerConfig::FromJson(fixture.config);
  const Case recorded(fixture, 1);
  const TokenGrid grid = recorded.grid();
  const Tensor ids = TokenCoordinates(grid, TokenOrder::RowOrder(grid.size()));
  Context context(2);
  const RotaryTable table = RotaryPositions(context, ids, config.RotaryAxes());
  EXPECT_LT(RelativeL2(table.cos, recorded.Get("rotary_cos")), 1e-7);
  EXPECT_LT(RelativeL2(table.sin, recorded.Get("rotary_sin")), 1e-7);
}

INSTANTIATE_TEST_SUITE_P(, WanTransformerParity,
                         testing::Values("wan-tiny", "wan-plain-tiny", "wan-image-tiny",
                                         "wan-image-positions-tiny"));

class WanTransformerSparsity : public testing::TestWithParam<const char*> {};

TEST_P(WanTransformerSparsity, StepsThatSelectEverythingEqualDense) {
  const Fixture fixture(GetParam());
  WanTransformer model = Load(fixture);
  Context context;
  model.PrepareForSparsity(context);
  const Case recorded(fixture, 1);
  const int64_t batch = recorded.output().dim(0);
  SparseSession session(SelectEverything(), model.Geometry(batch, recorded.grid()));
  const Tensor prediction =
      SparsePrediction(context, model, session, recorded.Inputs(), 900, recorded.output().shape());
  EXPECT_LT(RelativeL2(prediction, recorded.output()), kTolerance);
}

INSTANTIATE_TEST_SUITE_P(, WanTransformerSparsity,
                         testing::Values("wan-plain-tiny", "wan-image-tiny"));

TEST(WanTransformer, SwappingTheInvocationsSwapsThePredictions) {
  const Fixture fixture("wan-tiny");
  const WanTransformer model = Load(fixture);
  Context context;
  const Case recorded(fixture, 1);
  Tensor other_text = Tensor::CopyOf(recorded.Get("encoder_hidden_states"));
  ScaleShift(context, other_text, -0.5f, 0.1f, other_text);
  SparsityConfig config;
  config.attn.top_keys = 0.2;
  config.attn.random_keys = 0;
  config.attn.mbm = 24;
  config.attn.counts_multiple_of = 1;
  config.attn.first_n_dense_layers = 0;
  config.mlp.is_enabled = false;
  const SparseGeometry geometry = model.Geometry(1, recorded.grid());
  // The prediction for the recorded text and the other one, in this or the opposite order of calls.
  const auto predict = [&](int first) {
    SparseSession session(config, std::vector<SparseGeometry>{geometry, geometry});
    std::array<Tensor, 2> predictions;
    for (Tensor& one : predictions) one = Tensor(recorded.output().shape(), DType::kF32);
    for (int step = 0; step < 4; ++step) {
      session.BeginStep(step);
      for (int call = 0; call < 2; ++call) {
        const int text = first ^ call;
        WanTransformerInputs inputs = recorded.Inputs();
        if (text == 1) inputs.encoder_hidden_states = other_text;
        inputs.timestep = static_cast<float>(900 - 100 * step);
        model.Forward(context, inputs, session.invocation(call),
                      predictions[static_cast<size_t>(text)]);
      }
      session.EndStep();
    }
    EXPECT_GT(session.report().AttentionSparsity(), 0.1);
    return predictions;
  };
  ExpectSwapped(predict(0), predict(1));
}

TEST(WanTransformer, SkippedStepsReuseTheHiddenState) {
  for (const char* name : {"wan-tiny", "wan-plain-tiny"}) {
    SCOPED_TRACE(name);
    const Fixture fixture(name);
    const WanTransformer model = Load(fixture);
    const Case recorded(fixture, 0);
    const int64_t batch = recorded.output().dim(0);
    ExpectHiddenStateIsReused(name, model, model.Geometry(batch, recorded.grid()),
                              recorded.Inputs(), kTolerance);
  }
}

TEST(WanTransformer, AnInputThatHardlyChangedGivesThePreviousPrediction) {
  const Fixture fixture("wan-tiny");
  const WanTransformer model = Load(fixture);
  const Case recorded(fixture, 1);
  SparseSession session(StepCaching(), model.Geometry(1, recorded.grid()));
  ExpectThirdStepIsSkipped(model, session, recorded.Inputs(), 0.1f, recorded.output().shape());
}

struct PlanCase {
  const char* fixture;
  int64_t text_tokens;
  int64_t image_tokens;  // where the model takes any number
  TokenGrid grid;
};
class WanTransformerPlan : public testing::TestWithParam<PlanCase> {};

TEST_P(WanTransformerPlan, StepsTakeWhatDryOnesTake) {
  const PlanCase& plan = GetParam();
  const Fixture fixture(plan.fixture);
  WanTransformer model = Load(fixture);
  const WanTransformerConfig& config = model.config();
  const int64_t tokens = plan.grid.size(), patch = config.patch_elements();
  const Tensor video = RandomTensor({1, tokens, config.in_channels * patch}, 1);
  const Tensor text = RandomTensor({1, plan.text_tokens, config.text_dim}, 2);
  Tensor image;
  if (config.takes_image()) {
    const int64_t given = config.pos_embed_seq_len;
    image = RandomTensor({1, given > 0 ? given : plan.image_tokens, config.image_dim}, 3);
  }
  const Tensor rotary = Tensor::Zeros({tokens, config.attention_head_dim}, DType::kF32);
  ExpectStepsRunDry(model, model.Geometry(1, plan.grid),
                    WanTransformerInputs{.hidden_states = video,
                                         .encoder_hidden_states = text,
                                         .encoder_hidden_states_image = image,
                                         .timestep = 500,
                                         .rotary_cos = rotary,
                                         .rotary_sin = rotary},
                    {1, tokens, config.out_channels * patch});
}

// The text's keys and values take the most, or the video's, the picture's, its embedding.
INSTANTIATE_TEST_SUITE_P(, WanTransformerPlan,
                         testing::Values(PlanCase{"wan-tiny", 500, 0, {5, 10, 12}},
                                         PlanCase{"wan-tiny", 600, 0, {3, 10, 10}},
                                         PlanCase{"wan-plain-tiny", 50, 0, {5, 10, 10}},
                                         PlanCase{"wan-image-tiny", 20, 500, {3, 8, 10}},
                                         PlanCase{"wan-image-tiny", 20, 50, {5, 10, 10}},
                                         PlanCase{"wan-image-tiny", 20, 1000, {2, 4, 5}},
                                         PlanCase{"wan-image-positions-tiny", 20, 0, {5, 10, 10}}));

TEST(WanTransformer, RefusesAnImageThatDoesNotFit) {
  const Fixture fixture("wan-image-positions-tiny");
  const WanTransformer model = Load(fixture);
  const Case recorded(fixture, 0);
  WanTransformerInputs inputs = recorded.Inputs();
  const auto error = [&] {
    return ErrorOf([&] { DensePasses().Predict(model, inputs, recorded.output().shape()); });
  };
  inputs.encoder_hidden_states_image = inputs.encoder_hidden_states_image.Slice(1, 0, 3);
  EXPECT_THAT(error(), testing::HasSubstr("encoder_hidden_states_image"));
  inputs.encoder_hidden_states_image = {};
  EXPECT_THAT(error(), testing::HasSubstr("encoder_hidden_states_image"));

  const Fixture text_fixture("wan-tiny");
  const WanTransformer text_model = Load(text_fixture);
  const Case text_case(text_fixture, 0);
  WanTransformerInputs with_image = text_case.Inputs();
  with_image.encoder_hidden_states_image = with_image.encoder_hidden_states;
  EXPECT_THAT(
      ErrorOf([&] { DensePasses().Predict(text_model, with_image, text_case.output().shape()); }),
      testing::HasSubstr("expected none in a text-to-video model"));
}

TEST(WanTransformer, RefusesInputsThatDoNotFit) {
  const Fixture fixture("wan-tiny");
  const WanTransformer model = Load(fixture);
  const Case recorded(fixture, 0);
  WanTransformerInputs inputs = recorded.Inputs();
  inputs.encoder_hidden_states = inputs.encoder_hidden_states.Slice(2, 0, 3);
  EXPECT_THAT(ErrorOf([&] { DensePasses().Predict(model, inputs, recorded.output().shape()); }),
              testing::HasSubstr("encoder_hidden_states"));
}

TEST(WanTransformer, RefusesWeightsThatDoNotFitTheConfig) {
  const Fixture fixture("wan-tiny");
  WanTransformerConfig config = WanTransformerConfig::FromJson(fixture.config);
  config.num_layers = 3;
  EXPECT_THAT(ErrorOf([&] { WanTransformer(config, fixture.weights); }),
              testing::HasSubstr("blocks.2."));
  config.num_layers = 1;
  EXPECT_THAT(ErrorOf([&] { WanTransformer(config, fixture.weights); }),
              testing::HasSubstr("more layers than the 1 of config.json's field 'num_layers'"));
  config.num_layers = 2;
  config.patch_size = {2, 2, 2};
  EXPECT_THAT(ErrorOf([&] { WanTransformer(config, fixture.weights); }),
              testing::HasSubstr("patch_embedding.weight"));
}

TEST(WanTransformerConfig, RefusesBadFieldsByName) {
  const std::pair<const char*, const char*> cases[] = {
      {"image_dim", "0"},       {"pos_embed_seq_len", "514"}, {"qk_norm", R"("layer")"},
      {"patch_size", "[2, 2]"}, {"attention_head_dim", "17"}, {"attention_head_dim", "4"},
      {"num_layers", "0"},      {"freq_dim", "33"},
  };
  for (const auto& [field, value] : cases) {
    const JsonObject json = JsonObject::Parse(fmt::format(R"({{"{}": {}}})", field, value), "file");
    EXPECT_THAT(ErrorOf([&] { WanTransformerConfig::FromJson(json); }),
                testing::StartsWith(fmt::format("file: field '{}'", field)));
  }
}

TEST(WanTransformerConfig, WantsTheImageFieldsTogether) {
  const auto error = [](const char* fields) {
    return ErrorOf([&] { WanTransformerConfig::FromJson(JsonObject::Parse(fields, "file")); });
  };
  EXPECT_EQ(error(R"({"image_dim": 1280, "added_kv_proj_dim": 5120})"), "");
  EXPECT_THAT(error(R"({"image_dim": 1280})"), testing::HasSubstr("field 'added_kv_proj_dim'"));
  EXPECT_THAT(error(R"({"added_kv_proj_dim": 5120})"), testing::HasSubstr("field 'image_dim'"));
  EXPECT_EQ(error(R"({"image_dim": 1280, "added_kv_proj_dim": 1280})"),
            "file: field 'added_kv_proj_dim': expected the model width of 5120, found 1280");
}

}  // namespace
}  // namespace tamias
