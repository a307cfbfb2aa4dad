#include "models/flux_transformer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fixture.h"
#include "models/rotary_positions.h"
#include "sparsity/sparse_session.h"

namespace tamias {
namespace {

// Components are asked to agree within 1e-4; fp32 rounding over a few blocks leaves about 1e-6.
constexpr double kTolerance = 2e-5;

// One recorded case: what diffusers was given and what it computed.
class Case {
 public:
  Case(const Fixture& fixture, int index)
      : fixture_(fixture), prefix_(std::to_string(index) + ".") {}
  bool exists() const { return fixture_.cases.Has(prefix_ + "output"); }
  ConstTensorView Get(const std::string& name) const { return fixture_.cases.Get(prefix_ + name); }
  float Scalar(const std::string& name) const {
    return fixture_.cases.Has(prefix_ + name) ? Get(name).data<float>()[0] : 0.0f;
  }
  FluxTransformerInputs Inputs() const {
    return {.hidden_states = Get("hidden_states"),
            .encoder_hidden_states = Get("encoder_hidden_states"),
            .pooled_projections = Get("pooled_projections"),
            .timestep = Scalar("timestep"),
            .guidance = Scalar("guidance"),
            .rotary_cos = ImageRows("rotary_cos"),
            .rotary_sin = ImageRows("rotary_sin")};
  }
  // Of a table with a row for each token, those of the image.
  ConstTensorView ImageRows(const std::string& name) const {
    const ConstTensorView table = Get(name);
    return table.Slice(0, table.dim(0) - Get("hidden_states").dim(1), table.dim(0));
  }

 private:
  const Fixture& fixture_;
  std::string prefix_;
};

class FluxTransformerParity : public testing::TestWithParam<const char*> {};

TEST_P(FluxTransformerParity, AgreesWithDiffusers) {
  const Fixture fixture(GetParam());
  const FluxTransformer model(FluxTransformerConfig::FromJson(fixture.config), fixture.weights);
  const std::unique_ptr<SparseSession> session = SparseSession::Dense();
  Context context;
  int index = 0;
  for (; Case(fixture, index).exists(); ++index) {
    SCOPED_TRACE(index);
    const Case recorded(fixture, index);
    Tensor prediction(recorded.Get("output").shape(), DType::kF32);
    model.Forward(context, recorded.Inputs(), session->invocation(0), prediction);
    EXPECT_LT(RelativeL2(prediction, recorded.Get("output")), kTolerance);
  }
  EXPECT_EQ(index, 2);
}

TEST_P(FluxTransformerParity, RotaryPositionsAgreeWithDiffusers) {
  const Fixture fixture(GetParam());
  const FluxTransformerConfig config = FluxTransformerConfig::FromJson(fixture.config);
  const Case recorded(fixture, 1);
  const ConstTensorView text = recorded.Get("txt_ids");
  const ConstTensorView image = recorded.Get("img_ids");
  Tensor ids({text.dim(0) + image.dim(0), 3}, DType::kF32);
  CopyTensor(text, ids.view().Slice(0, 0, text.dim(0)));
  CopyTensor(image, ids.view().Slice(0, text.dim(0), ids.dim(0)));
  const RotaryTable table = RotaryPositions(ids, config.axes_dims_rope);
  EXPECT_LT(RelativeL2(table.cos, recorded.Get("rotary_cos")), 1e-7);
  EXPECT_LT(RelativeL2(table.sin, recorded.Get("rotary_sin")), 1e-7);
}

INSTANTIATE_TEST_SUITE_P(, FluxTransformerParity,
                         testing::Values("flux-dev-tiny", "flux-schnell-tiny"));

TEST(FluxTransformer, GuidanceIsAnInputOfTheDevVariant) {
  const Fixture fixture("flux-dev-tiny");
  const FluxTransformer model(FluxTransformerConfig::FromJson(fixture.config), fixture.weights);
  const std::unique_ptr<SparseSession> session = SparseSession::Dense();
  Context context;
  const Case recorded(fixture, 0);
  FluxTransformerInputs inputs = recorded.Inputs();
  inputs.guidance = 1.0f;
  Tensor prediction(recorded.Get("output").shape(), DType::kF32);
  model.Forward(context, inputs, session->invocation(0), prediction);
  EXPECT_GT(RelativeL2(prediction, recorded.Get("output")), 1e-2);
}

// The schnell fixture's second case: batch 3, 11 text tokens, a grid of 4 x 17.
constexpr TokenGrid kGrid = {.time = 1, .height = 4, .width = 17};

TEST(FluxTransformer, SparseStepsThatSelectEverythingEqualDense) {
  const Fixture fixture("flux-schnell-tiny");
  FluxTransformer model(FluxTransformerConfig::FromJson(fixture.config), fixture.weights);
  Context context;
  model.PrepareForSparsity(context);
  const Case recorded(fixture, 1);
  SparsityConfig config;
  config.attn.top_keys = config.mlp.top_keys = 1;
  config.attn.first_n_dense_layers = config.mlp.first_n_dense_layers = 0;
  config.mlp.counts_multiple_of = 1;
  SparseSession session(config, model.Geometry(3, 11, kGrid));
  // Another input on the full steps, so that whatever a sparse step keeps would show.
  FluxTransformerInputs inputs = recorded.Inputs();
  inputs.timestep = 0.9f;
  Tensor prediction(recorded.Get("output").shape(), DType::kF32);
  for (int step = 0; step < 3; ++step) {
    const StepKind kind = session.BeginStep(step);
    if (step == 2) {
      EXPECT_EQ(kind, StepKind::kSparse);
      inputs.timestep = recorded.Inputs().timestep;
    }
    model.Forward(context, inputs, session.invocation(0), prediction);
    session.EndStep();
  }
  EXPECT_LT(RelativeL2(prediction, recorded.Get("output")), kTolerance);
}

class FluxStepCaching : public testing::TestWithParam<bool> {};

TEST_P(FluxStepCaching, AnInputThatHardlyChangedGivesThePreviousPrediction) {
  const Fixture fixture("flux-schnell-tiny");
  const FluxTransformer model(FluxTransformerConfig::FromJson(fixture.config), fixture.weights);
  Context context;
  const Case recorded(fixture, 1);
  SparsityConfig config;
  config.attn.is_enabled = config.mlp.is_enabled = GetParam();
  config.step_caching.is_enabled = true;
  config.step_caching.skip_step_schedule = {};
  config.step_caching.threshold = 0.5;
  SparseSession session(config, model.Geometry(3, 11, kGrid));
  FluxTransformerInputs inputs = recorded.Inputs();
  Tensor first(recorded.Get("output").shape(), DType::kF32);
  Tensor second(recorded.Get("output").shape(), DType::kF32);
  for (int step = 0; step < 2; ++step) {  // full steps always run
    session.BeginStep(step);
    model.Forward(context, inputs, session.invocation(0), first);
  }
  session.BeginStep(2);
  inputs.timestep += 1e-4f;
  model.Forward(context, inputs, session.invocation(0), second);
  session.EndStep();
  EXPECT_EQ(RelativeL2(second, first), 0);
}

INSTANTIATE_TEST_SUITE_P(WithAndWithoutSparseDeltas, FluxStepCaching, testing::Bool());

TEST(FluxTransformer, PlanCoversTheWorkspaceWithinTwoPercent) {
  const Fixture fixture("flux-dev-tiny");
  const FluxTransformer model(FluxTransformerConfig::FromJson(fixture.config), fixture.weights);
  const std::unique_ptr<SparseSession> session = SparseSession::Dense();
  constexpr int64_t kBatch = 2;
  constexpr int64_t kText = 5;
  constexpr int64_t kImage = 2000;
  const FluxTransformerConfig& config = model.config();
  const Tensor image = Tensor::Zeros({kBatch, kImage, config.in_channels});
  const Tensor text = Tensor::Zeros({kBatch, kText, config.joint_attention_dim});
  const Tensor pooled = Tensor::Zeros({kBatch, config.pooled_projection_dim});
  const Tensor rotary = Tensor::Zeros({kImage, config.attention_head_dim});
  Tensor prediction({kBatch, kImage, config.out_channels}, DType::kF32);
  Context context(2);
  model.Forward(context,
                {.hidden_states = image,
                 .encoder_hidden_states = text,
                 .pooled_projections = pooled,
                 .timestep = 0.5f,
                 .guidance = 3.5f,
                 .rotary_cos = rotary,
                 .rotary_sin = rotary},
                session->invocation(0), prediction);
  const auto peak = static_cast<double>(context.workspace().peak_bytes());
  const auto operations = static_cast<double>(AttentionWorkspaceBytes(
      2, config.attention_head_dim, kBatch * config.num_attention_heads * 11));
  const auto plan = static_cast<double>(model.PlanBytes(kBatch, kText, kImage)) + operations;
  EXPECT_LE(peak, plan * 1.001);
  EXPECT_GE(peak, plan * 0.98);
}

TEST(FluxTransformer, RefusesInputsThatDoNotFit) {
  const Fixture fixture("flux-dev-tiny");
  const FluxTransformer model(FluxTransformerConfig::FromJson(fixture.config), fixture.weights);
  const std::unique_ptr<SparseSession> session = SparseSession::Dense();
  Context context;
  const Case recorded(fixture, 0);
  FluxTransformerInputs inputs = recorded.Inputs();
  inputs.pooled_projections = inputs.pooled_projections.Slice(1, 0, 3);
  Tensor prediction(recorded.Get("output").shape(), DType::kF32);
  try {
    model.Forward(context, inputs, session->invocation(0), prediction);
    ADD_FAILURE() << "a short pooled projection was accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("pooled_projections"));
  }
}

TEST(FluxTransformerConfig, RefusesRotaryAxesThatDoNotFillTheHead) {
  const JsonObject json =
      JsonObject::Parse(R"({"attention_head_dim": 64, "axes_dims_rope": [8, 28, 30]})", "config");
  try {
    FluxTransformerConfig::FromJson(json);
    ADD_FAILURE() << "axes that sum to 66 were accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("axes_dims_rope"));
  }
}

}  // namespace
}  // namespace tamias
