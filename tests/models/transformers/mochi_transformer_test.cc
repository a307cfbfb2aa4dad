#include "models/transformers/mochi_transformer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "tests/support/dry_run_case.h"
#include "tests/support/random_tensors.h"
#include "tests/support/transformer_case.h"

namespace tamias {
namespace {

// Components are asked to agree within 1e-4; fp32 rounding over a few blocks leaves about 5e-7.
constexpr double kTolerance = 1e-5;

class Case : public TransformerCase {
 public:
  using TransformerCase::TransformerCase;
  MochiTransformerInputs Inputs(const RotaryTable& rotary) const {
    return {.hidden_states = Get("hidden_states"),
            .encoder_hidden_states = Get("encoder_hidden_states"),
            .timestep = Scalar("timestep"),
            .rotary_cos = rotary.cos,
            .rotary_sin = rotary.sin};
  }
};

MochiTransformer Load(const Fixture& fixture) {
  return {MochiTransformerConfig::FromJson(fixture.config), fixture.weights};
}

RotaryTable RowOrderRotary(Context& context, const MochiTransformer& model, const TokenGrid& grid) {
  return model.RotaryPositions(context, grid, TokenOrder::RowOrder(grid.size()).tokens());
}

class MochiTransformerParity
    : public testing::TestWithParam<std::pair<const char*, int /*cases*/>> {};

TEST_P(MochiTransformerParity, AgreesWithDiffusers) {
  const Fixture fixture(GetParam().first);
  const MochiTransformer model = Load(fixture);
  DensePasses passes;
  const auto predict = [&](const Case& recorded) {
    const RotaryTable rotary = RowOrderRotary(passes.context(), model, recorded.grid());
    return passes.Predict(model, recorded.Inputs(rotary), recorded.output().shape());
  };
  EXPECT_EQ(ExpectCasesAgree<Case>(fixture, kTolerance, predict), GetParam().second);
}

TEST_P(MochiTransformerParity, AgreesWithDiffusersInBFloat16) {
  RotaryTable rotary;
  ExpectCasesAgreeInBFloat16<MochiTransformer, MochiTransformerConfig, Case>(
      Fixture(GetParam().first),
      [&](Context& context, const MochiTransformer& model, const Case& recorded) {
        rotary = RowOrderRotary(context, model, recorded.grid());
        return recorded.Inputs(rotary);
      });
}

TEST_P(MochiTransformerParity, RotaryPositionsAgreeWithDiffusers) {
  const Fixture fixture(GetParam().first);
  const MochiTransformer model = Load(fixture);
  Context context(2);
  const Case recorded(fixture, 0);
  const RotaryTable table = RowOrderRotary(context, model, recorded.grid());
  EXPECT_LT(RelativeL2(table.cos, recorded.Get("rotary_cos")), 1e-5);
  EXPECT_LT(RelativeL2(table.sin, recorded.Get("rotary_sin")), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(, MochiTransformerParity,
                         testing::Values(std::pair{"mochi-tiny", 4},
                                         std::pair{"mochi-one-block-tiny", 2}));

TEST(MochiTransformer, AnyTokenOrderGivesTheSamePrediction) {
  const Fixture fixture("mochi-one-block-tiny");
  const MochiTransformer model = Load(fixture);
  DensePasses passes;
  const Case recorded(fixture, 0);
  const TokenOrder order = TokenOrder::Voxels(recorded.grid(), {2, 3, 4});
  const RotaryTable rotary =
      model.RotaryPositions(passes.context(), recorded.grid(), order.tokens());
  const Tensor prediction =
      passes.PredictInOrder(model, order, recorded.Inputs(rotary), recorded.output().shape());
  EXPECT_LT(RelativeL2(prediction, recorded.output()), kTolerance);
}

TEST(MochiTransformer, SparseStepsThatSelectEverythingEqualDense) {
  const Fixture fixture("mochi-tiny");
  MochiTransformer model = Load(fixture);
  Context context;
  model.PrepareForSparsity(context);
  const Case recorded(fixture, 0);
  SparseSession session(SelectEverything(), model.Geometry(2, 7, recorded.grid()));
  const RotaryTable rotary = RowOrderRotary(context, model, recorded.grid());
  const Tensor prediction = SparsePrediction(context, model, session, recorded.Inputs(rotary), 900,
                                             recorded.output().shape());
  EXPECT_LT(RelativeL2(prediction, recorded.output()), kTolerance);
}

TEST(MochiTransformer, SwappingTheInvocationsSwapsThePredictions) {
  const Fixture fixture("mochi-tiny");
  MochiTransformer model = Load(fixture);
  Context context;
  model.PrepareForSparsity(context);
  const Case recorded(fixture, 1);
  const ConstTensorView text = Case(fixture, 2).Get("encoder_hidden_states");
  // The prompt and a negative prompt of which masking has left nothing.
  const std::array<ConstTensorView, 2> texts = {text, text.Slice(1, 0, 0)};
  SparsityConfig config;
  config.attn.top_keys = config.mlp.top_keys = 0.2;
  config.attn.random_keys = config.mlp.random_keys = 0;
  config.attn.mbm = 24;
  config.attn.counts_multiple_of = config.mlp.counts_multiple_of = 1;
  config.attn.first_n_dense_layers = config.mlp.first_n_dense_layers = 0;
  const RotaryTable rotary = RowOrderRotary(context, model, recorded.grid());
  // The predictions for both texts, in this or the opposite order of calls.
  const auto predict = [&](size_t first) {
    std::vector<SparseGeometry> geometries;
    for (size_t call = 0; call < 2; ++call) {
      geometries.push_back(model.Geometry(1, texts[first ^ call].dim(1), recorded.grid()));
    }
    SparseSession session(config, geometries);
    std::array<Tensor, 2> predictions;
    for (Tensor& one : predictions) one = Tensor(recorded.output().shape(), DType::kF32);
    for (int step = 0; step < 4; ++step) {
      session.BeginStep(step);
      for (size_t call = 0; call < 2; ++call) {
        MochiTransformerInputs inputs = recorded.Inputs(rotary);
        inputs.encoder_hidden_states = texts[first ^ call];
        inputs.timestep = static_cast<float>(100 + 100 * step);
        model.Forward(context, inputs, session.invocation(static_cast<int>(call)),
                      predictions[first ^ call]);
      }
      session.EndStep();
    }
    EXPECT_GT(session.report().AttentionSparsity(), 0.1);
    EXPECT_GT(session.report().MlpSparsity(), 0.1);
    return predictions;
  };
  ExpectSwapped(predict(0), predict(1));
}

TEST(MochiTransformer, SkippedStepsReuseTheHiddenState) {
  const Fixture fixture("mochi-tiny");
  const MochiTransformer model = Load(fixture);
  Context context;
  const Case recorded(fixture, 0);
  const RotaryTable rotary = RowOrderRotary(context, model, recorded.grid());
  ExpectHiddenStateIsReused("mochi-tiny", model, model.Geometry(2, 7, recorded.grid()),
                            recorded.Inputs(rotary), kTolerance);
}

TEST(MochiTransformer, AnInputThatHardlyChangedGivesThePreviousPrediction) {
  const Fixture fixture("mochi-tiny");
  const MochiTransformer model = Load(fixture);
  Context context;
  const Case recorded(fixture, 1);
  SparseSession session(StepCaching(), model.Geometry(1, 1, recorded.grid()));
  const RotaryTable rotary = RowOrderRotary(context, model, recorded.grid());
  ExpectThirdStepIsSkipped(model, session, recorded.Inputs(rotary), 0.1f,
                           recorded.output().shape());
}

TEST_P(MochiTransformerParity, StepsTakeWhatDryOnesTake) {
  const Fixture fixture(GetParam().first);
  MochiTransformer model = Load(fixture);
  constexpr int64_t kBatch = 2;
  constexpr int64_t kText = 50;
  const TokenGrid grid = {.time = 3, .height = 10, .width = 15};
  const MochiTransformerConfig& config = model.config();
  const int64_t channels = config.in_channels * config.patch_area();
  const Tensor video = RandomTensor({kBatch, grid.size(), channels}, 1);
  const Tensor text = RandomTensor({kBatch, kText, config.text_embed_dim}, 2);
  Context context(2);
  const RotaryTable rotary = RowOrderRotary(context, model, grid);
  ExpectStepsRunDry(model, model.Geometry(kBatch, kText, grid),
                    MochiTransformerInputs{.hidden_states = video,
                                           .encoder_hidden_states = text,
                                           .timestep = 500,
                                           .rotary_cos = rotary.cos,
                                           .rotary_sin = rotary.sin},
                    {kBatch, grid.size(), config.out_channels * config.patch_area()});
}

TEST(MochiTransformer, RotaryPositionsRunDry) {
  const Fixture fixture("mochi-tiny");
  const MochiTransformer model = Load(fixture);
  ExpectRunsDry([&](Context& context) { RowOrderRotary(context, model, {3, 10, 20}); });
}

TEST(MochiTransformer, RefusesInputsThatDoNotFit) {
  const Fixture fixture("mochi-tiny");
  const MochiTransformer model = Load(fixture);
  DensePasses passes;
  const Case recorded(fixture, 0);
  const RotaryTable rotary = RowOrderRotary(passes.context(), model, recorded.grid());
  const auto forward = [&](const MochiTransformerInputs& inputs) {
    return ErrorOf([&] { passes.Predict(model, inputs, recorded.output().shape()); });
  };
  MochiTransformerInputs short_text = recorded.Inputs(rotary);
  short_text.encoder_hidden_states = short_text.encoder_hidden_states.Slice(2, 0, 8);
  EXPECT_THAT(forward(short_text), testing::StartsWith("Mochi: encoder_hidden_states: expected"));
  MochiTransformerInputs shared_angles = recorded.Inputs(rotary);
  shared_angles.rotary_cos = shared_angles.rotary_cos.Select(0, 0);
  EXPECT_THAT(forward(shared_angles), testing::StartsWith("Mochi: rotary_cos: expected"));
}

TEST(MochiTransformer, NamesTheTensorThatDoesNotFit) {
  const Fixture fixture("mochi-tiny");
  const auto load = [&](auto change) {
    MochiTransformerConfig config = MochiTransformerConfig::FromJson(fixture.config);
    change(config);
    return ErrorOf([&] { MochiTransformer(config, fixture.weights); });
  };
  EXPECT_THAT(load([](auto& config) { config.num_layers = 3; }),
              testing::HasSubstr("transformer_blocks.1.norm1_context.linear.weight"));
  EXPECT_THAT(load([](auto& config) { config.num_layers = 1; }),
              testing::HasSubstr("more layers than the 1 of config.json's field 'num_layers'"));
  EXPECT_THAT(load([](auto& config) { config.patch_size = 3; }),
              testing::HasSubstr("patch_embed.proj.weight': expected shape [48, 3, 3, 3]"));
  EXPECT_THAT(load([](auto& config) { config.num_attention_heads = 4; }),
              testing::HasSubstr("patch_embed.proj.weight"));
  EXPECT_THAT(load([](auto& config) { config.out_channels = 5; }),
              testing::HasSubstr("proj_out.weight': expected shape [20, 48]"));
}

TEST(MochiTransformerConfig, NamesTheFieldThatItRefuses) {
  for (const auto& [json, expected] : {
           std::pair{R"({"qk_norm": "layer_norm"})", "field 'qk_norm'"},
           std::pair{R"({"activation_fn": "gelu"})", "field 'activation_fn'"},
           std::pair{R"({"attention_head_dim": 15})", "field 'attention_head_dim'"},
           std::pair{R"({"time_embed_dim": 7})", "field 'time_embed_dim'"},
           std::pair{R"({"text_embed_dim": 20})", "field 'text_embed_dim': expected a multiple"},
           std::pair{R"({"num_layers": 0})", "field 'num_layers'"},
           std::pair{R"({"in_channels": "12"})", "field 'in_channels'"},
       }) {
    EXPECT_THAT(ErrorOf([&, text = json] {
                  MochiTransformerConfig::FromJson(JsonObject::Parse(text, "config"));
                }),
                testing::HasSubstr(expected));
  }
}

}  // namespace
}  // namespace tamias
