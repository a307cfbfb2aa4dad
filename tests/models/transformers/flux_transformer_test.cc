#include "models/transformers/flux_transformer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/transformers/rotary_positions.h"
#include "tests/support/dry_run_case.h"
#include "tests/support/flux_case.h"
#include "tests/support/random_tensors.h"
#include "tests/support/transformer_case.h"

namespace tamias {
namespace {

// Components are asked to agree within 1e-4; fp32 rounding over a few blocks leaves about 1e-6.
constexpr double kTolerance = 2e-5;

class Case : public TransformerCase {
 public:
  using TransformerCase::TransformerCase;
  FluxTransformerInputs Inputs() const {
    return {.hidden_states = Get("hidden_states"),
            .encoder_hidden_states = Get("encoder_hidden_states"),
            .pooled_projections = Get("pooled_projections"),
            .timestep = Scalar("timestep"),
            .guidance = Has("guidance") ? Scalar("guidance") : 0.0f,
            .rotary_cos = ImageRows("rotary_cos"),
            .rotary_sin = ImageRows("rotary_sin")};
  }
  // Of a table with a row for each token, those of the image.
  ConstTensorView ImageRows(const std::string& name) const {
    const ConstTensorView table = Get(name);
    return table.Slice(0, table.dim(0) - Get("hidden_states").dim(1), table.dim(0));
  }
};

FluxTransformer Load(const Fixture& fixture) {
  return {FluxTransformerConfig::FromJson(fixture.config), fixture.weights};
}

class FluxTransformerParity : public testing::TestWithParam<const char*> {};

TEST_P(FluxTransformerParity, AgreesWithDiffusers) {
  const Fixture fixture(GetParam());
  const FluxTransformer model = Load(fixture);
  DensePasses passes;
  const auto predict = [&](const Case& recorded) {
    return passes.Predict(model, recorded.Inputs(), recorded.output().shape());
  };
  EXPECT_EQ(ExpectCasesAgree<Case>(fixture, kTolerance, predict), 2);
}

TEST_P(FluxTransformerParity, AgreesWithDiffusersInBFloat16) {
  ExpectCasesAgreeInBFloat16<FluxTransformer, FluxTransformerConfig, Case>(
      Fixture(GetParam()),
      [](Context&, const FluxTransformer&, const Case& recorded) { return recorded.Inputs(); });
}

TEST_P(FluxTransformerParity, RotaryPositionsAgreeWithDiffusers) {
  const Fixture fixture(GetParam());
  const FluxTransformerConfig config = FluxTransformerConfig::FromJson(fixture.config);
  const Case recorded(fixture, 1);
  const ConstTensorView text = recorded.Get("txt_ids");
  const ConstTensorView image = recorded.Get("img_ids");
  Tensor ids({text.dim(0) + image.dim(0), 3}, DType::kF32);
  CopyOnHost(text, ids.view().Slice(0, 0, text.dim(0)));
  CopyOnHost(image, ids.view().Slice(0, text.dim(0), ids.dim(0)));
  Context context(2);
  const RotaryTable table = RotaryPositions(context, ids, config.axes_dims_rope);
  EXPECT_LT(RelativeL2(table.cos, recorded.Get("rotary_cos")), 1e-7);
  EXPECT_LT(RelativeL2(table.sin, recorded.Get("rotary_sin")), 1e-7);
}

INSTANTIATE_TEST_SUITE_P(, FluxTransformerParity,
                         testing::Values("flux-dev-tiny", "flux-schnell-tiny"));

TEST(FluxTransformer, GuidanceIsAnInputOfTheDevVariant) {
  const Fixture fixture("flux-dev-tiny");
  const FluxTransformer model = Load(fixture);
  const Case recorded(fixture, 0);
  FluxTransformerInputs inputs = recorded.Inputs();
  inputs.guidance = 1.0f;
  const Tensor prediction = DensePasses().Predict(model, inputs, recorded.output().shape());
  EXPECT_GT(RelativeL2(prediction, recorded.output()), 1e-2);
}

// The schnell fixture's second case: batch 3, 11 text tokens, a grid of 4 x 17.
constexpr TokenGrid kGrid = {.time = 1, .height = 4, .width = 17};

TEST(FluxTransformer, SparseStepsThatSelectEverythingEqualDense) {
  const Fixture fixture("flux-schnell-tiny");
  FluxTransformer model = Load(fixture);
  Context context;
  model.PrepareForSparsity(context);
  const Case recorded(fixture, 1);
  SparseSession session(SelectEverything(), model.Geometry(3, 11, kGrid));
  const Tensor prediction =
      SparsePrediction(context, model, session, recorded.Inputs(), 0.9f, recorded.output().shape());
  EXPECT_LT(RelativeL2(prediction, recorded.output()), kTolerance);
}

TEST_P(FluxTransformerParity, SkippedStepsReuseTheHiddenState) {
  const Fixture fixture(GetParam());
  const FluxTransformer model = Load(fixture);
  const Case recorded(fixture, 0);
  const Shape image = recorded.Get("hidden_states").shape(), text = recorded.Get("txt_ids").shape();
  ExpectHiddenStateIsReused(GetParam(), model, model.Geometry(image[0], text[0], {1, 1, image[1]}),
                            recorded.Inputs(), kTolerance);
}

class FluxStepCaching : public testing::TestWithParam<bool> {};

TEST_P(FluxStepCaching, AnInputThatHardlyChangedGivesThePreviousPrediction) {
  const Fixture fixture("flux-schnell-tiny");
  const FluxTransformer model = Load(fixture);
  const Case recorded(fixture, 1);
  SparseSession session(StepCaching(GetParam()), model.Geometry(3, 11, kGrid));
  ExpectThirdStepIsSkipped(model, session, recorded.Inputs(), 1e-4f, recorded.output().shape());
}

INSTANTIATE_TEST_SUITE_P(WithAndWithoutSparseDeltas, FluxStepCaching, testing::Bool());

TEST_P(FluxTransformerParity, StepsTakeWhatDryOnesTake) {
  const Fixture fixture(GetParam());
  FluxTransformer model = Load(fixture);
  constexpr int64_t kBatch = 2;
  constexpr int64_t kText = 5;
  constexpr TokenGrid kLargeGrid = {.time = 1, .height = 20, .width = 25};
  constexpr int64_t kImage = 500;
  const FluxTransformerConfig& config = model.config();
  const Tensor image = RandomTensor({kBatch, kImage, config.in_channels}, 1);
  const Tensor text = RandomTensor({kBatch, kText, config.joint_attention_dim}, 2);
  const Tensor pooled = RandomTensor({kBatch, config.pooled_projection_dim}, 3);
  const Tensor rotary = Tensor::Zeros({kImage, config.attention_head_dim}, DType::kF32);
  ExpectStepsRunDry(model, model.Geometry(kBatch, kText, kLargeGrid),
                    FluxTransformerInputs{.hidden_states = image,
                                          .encoder_hidden_states = text,
                                          .pooled_projections = pooled,
                                          .timestep = 0.5f,
                                          .guidance = 3.5f,
                                          .rotary_cos = rotary,
                                          .rotary_sin = rotary},
                    {kBatch, kImage, config.out_channels});
}

// No device is opened: this also runs where there is none.
TEST(FluxTransformer, PlansForAGpu) {
  const WeightsFolder folder;
  const Weights weights = FluxCase::WriteWeights(folder, DType::kBF16);
  const Tensor text({1, FluxCase::kText, 32}, DType::kF32), pooled({1, 16}, DType::kF32);
  const Tensor rotary({FluxCase::kImage, 64}, DType::kF32);
  const Shape latents = {1, FluxCase::kImage, 16};
  const Tensor image(latents, DType::kF32);
  const auto plan = [&](const SparsityConfig& sparsity) {
    size_t state_bytes = 0;
    const Placement gpu = PlacementOn({DeviceType::kCuda, 0}, DType::kBF16);
    const size_t workspace = PlannedWorkspace(gpu, 1, [&](Context& context) {
      FluxTransformer model(FluxCase::Config(), weights.CopyToDevice(context));
      model.PrepareForSparsity(context);
      SparseSession session(context, sparsity,
                            {model.Geometry(1, FluxCase::kText, FluxCase::kGrid)});
      RunDry(context, model, session, FluxCase::Inputs(image, text, pooled, rotary, rotary, 0),
             latents);
      state_bytes = session.allocated_bytes();
    });
    return std::pair{workspace, state_bytes};
  };
  const auto [dense, no_state] = plan(SparsityConfig::Dense());
  const auto [sparse, state] = plan(EveryKindOfStep());
  EXPECT_GT(dense, size_t{FluxCase::kImage} * 128 * 4) << "the residual stream alone";
  EXPECT_GE(sparse, dense);
  EXPECT_EQ(no_state, 0u);
  EXPECT_GT(state, 0u);
}

TEST(FluxTransformer, RefusesInputsThatDoNotFit) {
  const Fixture fixture("flux-dev-tiny");
  const FluxTransformer model = Load(fixture);
  const Case recorded(fixture, 0);
  FluxTransformerInputs inputs = recorded.Inputs();
  inputs.pooled_projections = inputs.pooled_projections.Slice(1, 0, 3);
  EXPECT_THAT(ErrorOf([&] { DensePasses().Predict(model, inputs, recorded.output().shape()); }),
              testing::HasSubstr("pooled_projections"));
}

TEST(FluxTransformer, RefusesMoreBlocksThanTheConfigSays) {
  const Fixture fixture("flux-dev-tiny");
  FluxTransformerConfig config = FluxTransformerConfig::FromJson(fixture.config);
  const auto load = [&] { FluxTransformer(config, fixture.weights); };
  --config.num_single_layers;
  EXPECT_THAT(
      ErrorOf(load),
      testing::HasSubstr(fmt::format(
          "tensor 'single_transformer_blocks.{0}...': there are more layers than the {0} of "
          "config.json's field 'num_single_layers': one of the two is of another model",
          config.num_single_layers)));
  --config.num_layers;
  EXPECT_THAT(ErrorOf(load), testing::HasSubstr("config.json's field 'num_layers'"));
}

TEST(FluxTransformerConfig, RefusesRotaryAxesThatDoNotFillTheHead) {
  const JsonObject json =
      JsonObject::Parse(R"({"attention_head_dim": 64, "axes_dims_rope": [8, 28, 30]})", "config");
  EXPECT_THAT(ErrorOf([&] { FluxTransformerConfig::FromJson(json); }),
              testing::HasSubstr("axes_dims_rope"));
}

}  // namespace
}  // namespace tamias
