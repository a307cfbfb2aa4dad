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
struct Case {
  Case(const Fixture& fixture, int index) : fixture(fixture), prefix(std::to_string(index) + ".") {}
  bool exists() const { return fixture.cases.Has(prefix + "output"); }
  ConstTensorView Get(const std::string& name) const { return fixture.cases.Get(prefix + name); }
  float Scalar(const std::string& name) const {
    return fixture.cases.Has(prefix + name) ? Get(name).data<float>()[0] : 0.0f;
  }
  FluxTransformerInputs Inputs() const {
    return {.hidden_states = Get("hidden_states"),
            .encoder_hidden_states = Get("encoder_hidden_states"),
            .pooled_projections = Get("pooled_projections"),
            .timestep = Scalar("timestep"),
            .guidance = Scalar("guidance"),
            .rotary_cos = Get("rotary_cos"),
            .rotary_sin = Get("rotary_sin")};
  }

  const Fixture& fixture;
  std::string prefix;
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
