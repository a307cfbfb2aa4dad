#include "models/transformers/wan_transformer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "models/transformers/rotary_positions.h"
#include "ops/elementwise.h"
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

TEST_P(WanTransformerParity, RotaryPositionsAgreeWithDiffusers) {
  const Fixture fixture(GetParam());
  const WanTransformerConfig config = WanTransformerConfig::FromJson(fixture.config);
  const Case recorded(fixture, 1);
  const TokenGrid grid = recorded.grid();
  const Tensor ids = TokenCoordinates(grid, TokenOrder::RowOrder(grid.size()));
  const RotaryTable table = RotaryPositions(ids, config.RotaryAxes());
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

class WanTransformerPlan : public testing::TestWithParam<int64_t> {};

TEST_P(WanTransformerPlan, CoversTheWorkspaceWithinTwoPercent) {
  const Fixture fixture("wan-tiny");
  const WanTransformer model = Load(fixture);
  constexpr int64_t kText = 1500;
  const int64_t video_tokens = GetParam();
  const WanTransformerConfig& config = model.config();
  const Tensor video = Tensor::Zeros({1, video_tokens, config.in_channels * 4}, DType::kF32);
  const Tensor text = Tensor::Zeros({1, kText, config.text_dim}, DType::kF32);
  const Tensor rotary = Tensor::Zeros({video_tokens, config.attention_head_dim}, DType::kF32);
  DensePasses passes(2);
  passes.Predict(model,
                 WanTransformerInputs{.hidden_states = video,
                                      .encoder_hidden_states = text,
                                      .timestep = 500,
                                      .rotary_cos = rotary,
                                      .rotary_sin = rotary},
                 {1, video_tokens, config.out_channels * 4});
  ExpectPlanCovers(
      passes.context(), model.PlanBytes(1, kText, video_tokens),
      AttentionWorkspaceBytes(2, config.attention_head_dim,
                              config.num_attention_heads * ((video_tokens + 191) / 192)),
      0.98);
}

INSTANTIATE_TEST_SUITE_P(LongAndShortVideo, WanTransformerPlan, testing::Values(2000, 900));

TEST(WanTransformer, PlanOfAnImageCoversTheWorkspaceWithinTwoPercent) {
  const Fixture fixture("wan-image-tiny");
  const WanTransformer model = Load(fixture);
  const WanTransformerConfig& config = model.config();
  // The picture's keys and values, then the video's, then its embedding take the most.
  for (const auto& [video_tokens, image_tokens] : {std::pair{600, 1300}, {2000, 100}, {40, 3000}}) {
    SCOPED_TRACE(video_tokens);
    const Tensor video = Tensor::Zeros({1, video_tokens, config.in_channels * 4}, DType::kF32);
    const Tensor text = Tensor::Zeros({1, 20, config.text_dim}, DType::kF32);
    const Tensor image = Tensor::Zeros({1, image_tokens, config.image_dim}, DType::kF32);
    const Tensor rotary = Tensor::Zeros({video_tokens, config.attention_head_dim}, DType::kF32);
    DensePasses passes(2);
    passes.Predict(model,
                   WanTransformerInputs{.hidden_states = video,
                                        .encoder_hidden_states = text,
                                        .encoder_hidden_states_image = image,
                                        .timestep = 500,
                                        .rotary_cos = rotary,
                                        .rotary_sin = rotary},
                   {1, video_tokens, config.out_channels * 4});
    ExpectPlanCovers(
        passes.context(), model.PlanBytes(1, 20, video_tokens, image_tokens),
        AttentionWorkspaceBytes(2, config.attention_head_dim,
                                config.num_attention_heads * ((video_tokens + 191) / 192)),
        video_tokens > 1000 ? 0.98 : 0.5);
  }
}

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
