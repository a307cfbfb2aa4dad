#include "models/transformers/hunyuan_video_transformer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/transformers/rotary_positions.h"
#include "tests/support/dry_run_case.h"
#include "tests/support/random_tensors.h"
#include "tests/support/transformer_case.h"

namespace tamias {
namespace {

// Components are asked to agree within 1e-4; fp32 rounding over a few blocks leaves about 1e-6.
constexpr double kTolerance = 2e-5;

HunyuanVideoTransformer Load(const Fixture& fixture) {
  return {HunyuanVideoTransformerConfig::FromJson(fixture.config), fixture.weights};
}

RotaryTable Rotary(Context& context, const HunyuanVideoTransformer& model, const TokenGrid& grid,
                   const TokenOrder& order) {
  return RotaryPositions(context, TokenCoordinates(grid, order), model.config().rope_axes_dim,
                         model.config().rope_theta);
}

RotaryTable RowOrderRotary(Context& context, const HunyuanVideoTransformer& model,
                           const TokenGrid& grid) {
  return Rotary(context, model, grid, TokenOrder::RowOrder(grid.size()));
}

class Case : public TransformerCase {
 public:
  using TransformerCase::TransformerCase;
  int64_t text_tokens() const { return Get("encoder_hidden_states").dim(1); }
  HunyuanVideoTransformerInputs Inputs(const RotaryTable& rotary) const {
    return {.hidden_states = Get("hidden_states"),
            .encoder_hidden_states = Get("encoder_hidden_states"),
            .pooled_projections = Get("pooled_projections"),
            .timestep = Scalar("timestep"),
            .guidance = Scalar("guidance"),
            .rotary_cos = rotary.cos,
            .rotary_sin = rotary.sin};
  }
};

class HunyuanVideoTransformerParity
    : public testing::TestWithParam<std::pair<const char*, int /*cases*/>> {};

TEST_P(HunyuanVideoTransformerParity, AgreesWithDiffusers) {
  const Fixture fixture(GetParam().first);
  const HunyuanVideoTransformer model = Load(fixture);
  DensePasses passes;
  const auto predict = [&](const Case& recorded) {
    const RotaryTable rotary = RowOrderRotary(passes.context(), model, recorded.grid());
    return passes.Predict(model, recorded.Inputs(rotary), recorded.output().shape());
  };
  EXPECT_EQ(ExpectCasesAgree<Case>(fixture, kTolerance, predict), GetParam().second);
}

TEST_P(HunyuanVideoTransformerParity, AgreesWithDiffusersInBFloat16) {
  RotaryTable rotary;
  ExpectCasesAgreeInBFloat16<HunyuanVideoTransformer, HunyuanVideoTransformerConfig, Case>(
      Fixture(GetParam().first),
      [&](Context& context, const HunyuanVideoTransformer& model, const Case& recorded) {
        rotary = RowOrderRotary(context, model, recorded.grid());
        return recorded.Inputs(rotary);
      });
}

TEST_P(HunyuanVideoTransformerParity, RotaryPositionsAgreeWithDiffusers) {
  const Fixture fixture(GetParam().first);
  const Case recorded(fixture, 0);
  Context context(2);
  const RotaryTable table = RowOrderRotary(context, Load(fixture), recorded.grid());
  EXPECT_LT(RelativeL2(table.cos, recorded.Get("rotary_cos")), 1e-6);
  EXPECT_LT(RelativeL2(table.sin, recorded.Get("rotary_sin")), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(, HunyuanVideoTransformerParity,
                         testing::Values(std::pair{"hunyuan-video-tiny", 3},
                                         std::pair{"hunyuan-video-plain-tiny", 2}));

TEST(HunyuanVideoTransformer, GuidanceIsAnInput) {
  const Fixture fixture("hunyuan-video-tiny");
  const HunyuanVideoTransformer model = Load(fixture);
  const Case recorded(fixture, 0);
  DensePasses passes;
  const RotaryTable rotary = RowOrderRotary(passes.context(), model, recorded.grid());
  HunyuanVideoTransformerInputs inputs = recorded.Inputs(rotary);
  inputs.guidance = 1.0f;
  const Tensor prediction = passes.Predict(model, inputs, recorded.output().shape());
  EXPECT_GT(RelativeL2(prediction, recorded.output()), 1e-2);
}

// The third case, a grid of 5 x 7 x 9 tokens: voxels of 2 x 3 x 4 leave a tail on every axis.
TEST(HunyuanVideoTransformer, AnyTokenOrderGivesTheSamePrediction) {
  const Fixture fixture("hunyuan-video-tiny");
  const HunyuanVideoTransformer model = Load(fixture);
  const Case recorded(fixture, 2);
  const TokenOrder order = TokenOrder::Voxels(recorded.grid(), {2, 3, 4});
  DensePasses passes;
  const RotaryTable rotary = Rotary(passes.context(), model, recorded.grid(), order);
  const Tensor prediction =
      passes.PredictInOrder(model, order, recorded.Inputs(rotary), recorded.output().shape());
  EXPECT_LT(RelativeL2(prediction, recorded.output()), kTolerance);
}

class HunyuanVideoSparseSteps : public testing::TestWithParam<int /*case*/> {};

TEST_P(HunyuanVideoSparseSteps, ThatSelectEverythingEqualDense) {
  const Fixture fixture("hunyuan-video-tiny");
  HunyuanVideoTransformer model = Load(fixture);
  Context context;
  model.PrepareForSparsity(context);
  const Case recorded(fixture, GetParam());
  SparsityConfig config = SelectEverything();
  config.attn.counts_multiple_of = 1;
  SparseSession session(
      config, model.Geometry(recorded.output().dim(0), recorded.text_tokens(), recorded.grid()));
  const RotaryTable rotary = RowOrderRotary(context, model, recorded.grid());
  const Tensor prediction = SparsePrediction(context, model, session, recorded.Inputs(rotary), 700,
                                             recorded.output().shape());
  EXPECT_LT(RelativeL2(prediction, recorded.output()), kTolerance);
}

INSTANTIATE_TEST_SUITE_P(, HunyuanVideoSparseSteps, testing::Values(0, 1, 2));

// Two prompts of different lengths over the same latents, six steps with a selection of a tenth:
// the prediction of each after every step.
std::vector<Tensor> GuidedPredictions(const HunyuanVideoTransformer& model, const Case& recorded,
                                      const RotaryTable& rotary, std::array<int, 2> call_order) {
  Context context;
  const HunyuanVideoTransformerInputs inputs = recorded.Inputs(rotary);
  const int64_t width = model.config().text_embed_dim;
  std::array<Tensor, 2> texts = {Tensor({1, 3, width}, DType::kF32),
                                 Tensor({1, 8, width}, DType::kF32)};
  std::vector<SparseGeometry> geometries;
  for (Tensor& text : texts) {
    for (int64_t i = 0; i < text.NumElements(); ++i) {
      text.data<float>()[i] = std::sin(static_cast<float>(i * text.dim(1)));
    }
    geometries.push_back(model.Geometry(1, text.dim(1), recorded.grid()));
  }
  SparsityConfig config;
  config.attn.top_keys = config.mlp.top_keys = 0.1;
  config.attn.first_n_dense_layers = config.mlp.first_n_dense_layers = 0;
  config.attn.mbm = config.mlp.mbm = 32;
  config.attn.counts_multiple_of = config.mlp.counts_multiple_of = 8;
  SparseSession session(config, geometries);
  std::vector<Tensor> predictions;
  for (int step = 0; step < 6; ++step) {
    session.BeginStep(step);
    std::array<Tensor, 2> made;
    for (const int invocation : call_order) {
      HunyuanVideoTransformerInputs call = inputs;
      call.timestep = static_cast<float>(900 - 50 * step);
      call.encoder_hidden_states = texts[static_cast<size_t>(invocation)];
      Tensor& prediction = made[static_cast<size_t>(invocation)];
      prediction = Tensor(recorded.output().shape(), DType::kF32);
      model.Forward(context, call, session.invocation(invocation), prediction);
    }
    session.EndStep();
    for (Tensor& one : made) predictions.push_back(std::move(one));
  }
  return predictions;
}

TEST(HunyuanVideoTransformer, TheOrderOfItsInvocationsChangesNothing) {
  const Fixture fixture("hunyuan-video-tiny");
  HunyuanVideoTransformer model = Load(fixture);
  Context context;
  model.PrepareForSparsity(context);
  const Case recorded(fixture, 2);
  const RotaryTable rotary = RowOrderRotary(context, model, recorded.grid());
  const std::vector<Tensor> forward = GuidedPredictions(model, recorded, rotary, {0, 1});
  const std::vector<Tensor> backward = GuidedPredictions(model, recorded, rotary, {1, 0});
  ASSERT_EQ(forward.size(), backward.size());
  for (size_t i = 0; i < forward.size(); ++i) {
    EXPECT_EQ(RelativeL2(forward[i], backward[i]), 0) << "step " << i / 2;
  }
  // The prompts do differ, and sparse steps are not dense ones.
  EXPECT_GT(RelativeL2(forward[10], forward[11]), 1e-3);
}

TEST(HunyuanVideoTransformer, SkippedStepsReuseTheHiddenState) {
  const Fixture fixture("hunyuan-video-tiny");
  const HunyuanVideoTransformer model = Load(fixture);
  const Case recorded(fixture, 0);
  Context context;
  const RotaryTable rotary = RowOrderRotary(context, model, recorded.grid());
  ExpectHiddenStateIsReused("hunyuan-video-tiny", model,
                            model.Geometry(1, recorded.text_tokens(), recorded.grid()),
                            recorded.Inputs(rotary), kTolerance);
}

TEST(HunyuanVideoTransformer, AnInputThatHardlyChangedGivesThePreviousPrediction) {
  const Fixture fixture("hunyuan-video-tiny");
  const HunyuanVideoTransformer model = Load(fixture);
  const Case recorded(fixture, 0);
  SparseSession session(StepCaching(), model.Geometry(1, recorded.text_tokens(), recorded.grid()));
  Context context;
  const RotaryTable rotary = RowOrderRotary(context, model, recorded.grid());
  ExpectThirdStepIsSkipped(model, session, recorded.Inputs(rotary), 0.1f,
                           recorded.output().shape());
}

struct PlanCase {
  const char* fixture;
  int64_t text_tokens;
  TokenGrid grid;
};
class HunyuanVideoTransformerPlan : public testing::TestWithParam<PlanCase> {};

TEST_P(HunyuanVideoTransformerPlan, StepsTakeWhatDryOnesTake) {
  const auto [name, text_tokens, grid] = GetParam();
  const Fixture fixture(name);
  HunyuanVideoTransformer model = Load(fixture);
  const HunyuanVideoTransformerConfig& config = model.config();
  const Tensor video =
      RandomTensor({1, grid.size(), config.in_channels * config.patch_elements()}, 1);
  const Tensor text = RandomTensor({1, text_tokens, config.text_embed_dim}, 2);
  const Tensor pooled = RandomTensor({1, config.pooled_projection_dim}, 3);
  const Tensor rotary = Tensor::Zeros({grid.size(), config.attention_head_dim}, DType::kF32);
  ExpectStepsRunDry(model, model.Geometry(1, text_tokens, grid),
                    HunyuanVideoTransformerInputs{.hidden_states = video,
                                                  .encoder_hidden_states = text,
                                                  .pooled_projections = pooled,
                                                  .timestep = 500,
                                                  .guidance = 6,
                                                  .rotary_cos = rotary,
                                                  .rotary_sin = rotary},
                    {1, grid.size(), config.out_channels * config.patch_elements()});
}

INSTANTIATE_TEST_SUITE_P(LongAndShortVideo, HunyuanVideoTransformerPlan,
                         testing::Values(PlanCase{"hunyuan-video-tiny", 20, {5, 10, 12}},
                                         PlanCase{"hunyuan-video-tiny", 300, {3, 10, 10}},
                                         PlanCase{"hunyuan-video-plain-tiny", 20, {3, 10, 10}}));

TEST(HunyuanVideoTransformer, RefusesInputsThatDoNotFit) {
  const Fixture fixture("hunyuan-video-tiny");
  const HunyuanVideoTransformer model = Load(fixture);
  DensePasses passes;
  const Case recorded(fixture, 0);
  const RotaryTable rotary = RowOrderRotary(passes.context(), model, recorded.grid());
  const auto forward = [&](auto change) {
    HunyuanVideoTransformerInputs inputs = recorded.Inputs(rotary);
    change(inputs);
    return ErrorOf([&] { passes.Predict(model, inputs, recorded.output().shape()); });
  };
  EXPECT_THAT(forward([](auto& inputs) {
                inputs.encoder_hidden_states = inputs.encoder_hidden_states.Slice(2, 0, 8);
              }),
              testing::StartsWith("HunyuanVideo: encoder_hidden_states: expected"));
  EXPECT_THAT(forward([](auto& inputs) {
                inputs.encoder_hidden_states = inputs.encoder_hidden_states.Slice(1, 0, 0);
              }),
              testing::StartsWith("HunyuanVideo: encoder_hidden_states: expected at least one"));
  EXPECT_THAT(forward([](auto& inputs) {
                inputs.pooled_projections = inputs.pooled_projections.Slice(1, 0, 3);
              }),
              testing::StartsWith("HunyuanVideo: pooled_projections: expected"));
  EXPECT_THAT(forward([](auto& inputs) { inputs.rotary_sin = inputs.rotary_sin.Slice(0, 0, 5); }),
              testing::StartsWith("HunyuanVideo: rotary_sin: expected"));
}

TEST(HunyuanVideoTransformer, NamesTheTensorThatDoesNotFit) {
  const Fixture fixture("hunyuan-video-tiny");
  const auto load = [&](auto change) {
    HunyuanVideoTransformerConfig config = HunyuanVideoTransformerConfig::FromJson(fixture.config);
    change(config);
    return ErrorOf([&] { HunyuanVideoTransformer(config, fixture.weights); });
  };
  EXPECT_THAT(load([](auto& config) { config.num_layers = 3; }),
              testing::HasSubstr("transformer_blocks.2.norm1.linear.weight"));
  EXPECT_THAT(load([](auto& config) { config.num_refiner_layers = 3; }),
              testing::HasSubstr("token_refiner.refiner_blocks.2.norm1.weight"));
  EXPECT_THAT(load([](auto& config) { config.num_refiner_layers = 1; }),
              testing::HasSubstr("more layers than the 1 of config.json's field 'num_refiner"));
  EXPECT_THAT(load([](auto& config) { config.patch_size_t = 2; }),
              testing::HasSubstr("expected shape [32, 24]"));
  EXPECT_THAT(load([](auto& config) { config.mlp_ratio = 3; }),
              testing::HasSubstr("transformer_blocks.0.ff.net.0.proj.weight"));
  EXPECT_THAT(load([](auto& config) { config.text_embed_dim = 21; }),
              testing::HasSubstr("context_embedder"));
}

TEST(HunyuanVideoTransformerConfig, NamesTheFieldThatItRefuses) {
  for (const auto& [json, expected] : {
           std::pair{R"({"image_condition_type": "latent_concat"})",
                     "field 'image_condition_type'"},
           std::pair{R"({"qk_norm": "layer_norm"})", "field 'qk_norm'"},
           std::pair{R"({"rope_axes_dim": [16, 56]})", "field 'rope_axes_dim': expected 3"},
           std::pair{R"({"rope_axes_dim": [15, 57, 56]})", "field 'rope_axes_dim': expected even"},
           std::pair{R"({"num_layers": 0, "num_single_layers": 0})", "field 'num_layers'"},
           std::pair{R"({"patch_size": 0})", "field 'patch_size'"},
           std::pair{R"({"in_channels": "16"})", "field 'in_channels'"},
       }) {
    EXPECT_THAT(ErrorOf([&, text = json] {
                  HunyuanVideoTransformerConfig::FromJson(JsonObject::Parse(text, "config"));
                }),
                testing::HasSubstr(expected));
  }
}

}  // namespace
}  // namespace tamias
