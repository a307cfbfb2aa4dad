#include "models/wan_transformer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "fixture.h"
#include "models/rotary_positions.h"
#include "ops/elementwise.h"
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
  TokenGrid Grid() const {
    const int32_t* sizes = Get("grid").data<int32_t>();
    return {.time = sizes[0], .height = sizes[1], .width = sizes[2]};
  }
  WanTransformerInputs Inputs() const {
    return {.hidden_states = Get("hidden_states"),
            .encoder_hidden_states = Get("encoder_hidden_states"),
            .timestep = Get("timestep").data<float>()[0],
            .rotary_cos = Get("rotary_cos"),
            .rotary_sin = Get("rotary_sin")};
  }

 private:
  const Fixture& fixture_;
  std::string prefix_;
};

class WanTransformerParity : public testing::TestWithParam<const char*> {};

TEST_P(WanTransformerParity, AgreesWithDiffusers) {
  const Fixture fixture(GetParam());
  const WanTransformer model(WanTransformerConfig::FromJson(fixture.config), fixture.weights);
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

TEST_P(WanTransformerParity, RotaryPositionsAgreeWithDiffusers) {
  const Fixture fixture(GetParam());
  const WanTransformerConfig config = WanTransformerConfig::FromJson(fixture.config);
  const Case recorded(fixture, 1);
  const TokenGrid grid = recorded.Grid();
  Tensor ids({grid.size(), 3}, DType::kF32);
  for (int64_t i = 0; i < grid.size(); ++i) {
    float* id = ids.data<float>() + 3 * i;
    id[0] = static_cast<float>(i / (grid.height * grid.width));
    id[1] = static_cast<float>(i / grid.width % grid.height);
    id[2] = static_cast<float>(i % grid.width);
  }
  const RotaryTable table = RotaryPositions(ids, config.RotaryAxes());
  EXPECT_LT(RelativeL2(table.cos, recorded.Get("rotary_cos")), 1e-7);
  EXPECT_LT(RelativeL2(table.sin, recorded.Get("rotary_sin")), 1e-7);
}

INSTANTIATE_TEST_SUITE_P(, WanTransformerParity, testing::Values("wan-tiny", "wan-plain-tiny"));

TEST(WanTransformer, SparseStepsThatSelectEverythingEqualDense) {
  const Fixture fixture("wan-plain-tiny");
  WanTransformer model(WanTransformerConfig::FromJson(fixture.config), fixture.weights);
  Context context;
  model.PrepareForSparsity(context);
  const Case recorded(fixture, 1);
  SparsityConfig config;
  config.attn.top_keys = config.mlp.top_keys = 1;
  config.attn.first_n_dense_layers = config.mlp.first_n_dense_layers = 0;
  config.mlp.counts_multiple_of = 1;
  const int64_t batch = recorded.Get("output").dim(0);
  SparseSession session(config, model.Geometry(batch, recorded.Grid()));
  // Another input on the full steps, so that whatever a sparse step keeps would show.
  WanTransformerInputs inputs = recorded.Inputs();
  inputs.timestep = 900;
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

TEST(WanTransformer, SwappingTheInvocationsSwapsThePredictions) {
  const Fixture fixture("wan-tiny");
  const WanTransformer model(WanTransformerConfig::FromJson(fixture.config), fixture.weights);
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
  const SparseGeometry geometry = model.Geometry(1, recorded.Grid());
  // The prediction for the recorded text and the other one, in this or the opposite order of calls.
  const auto predict = [&](int first) {
    SparseSession session(config, std::vector<SparseGeometry>{geometry, geometry});
    std::array<Tensor, 2> predictions;
    for (Tensor& one : predictions) one = Tensor(recorded.Get("output").shape(), DType::kF32);
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
  const std::array<Tensor, 2> in_order = predict(0);
  const std::array<Tensor, 2> swapped = predict(1);
  EXPECT_EQ(RelativeL2(swapped[0], in_order[0]), 0);
  EXPECT_EQ(RelativeL2(swapped[1], in_order[1]), 0);
  EXPECT_GT(RelativeL2(in_order[1], in_order[0]), 1e-3);
}

TEST(WanTransformer, AnInputThatHardlyChangedGivesThePreviousPrediction) {
  const Fixture fixture("wan-tiny");
  const WanTransformer model(WanTransformerConfig::FromJson(fixture.config), fixture.weights);
  Context context;
  const Case recorded(fixture, 1);
  SparsityConfig config;
  config.attn.is_enabled = config.mlp.is_enabled = false;
  config.step_caching.is_enabled = true;
  config.step_caching.skip_step_schedule = {};
  config.step_caching.threshold = 0.5;
  SparseSession session(config, model.Geometry(1, recorded.Grid()));
  WanTransformerInputs inputs = recorded.Inputs();
  Tensor first(recorded.Get("output").shape(), DType::kF32);
  Tensor second(recorded.Get("output").shape(), DType::kF32);
  for (int step = 0; step < 2; ++step) {  // full steps always run
    session.BeginStep(step);
    model.Forward(context, inputs, session.invocation(0), first);
  }
  session.BeginStep(2);
  inputs.timestep += 0.1f;
  model.Forward(context, inputs, session.invocation(0), second);
  session.EndStep();
  EXPECT_EQ(RelativeL2(second, first), 0);
}

class WanTransformerPlan : public testing::TestWithParam<int64_t> {};

TEST_P(WanTransformerPlan, CoversTheWorkspaceWithinTwoPercent) {
  const Fixture fixture("wan-tiny");
  const WanTransformer model(WanTransformerConfig::FromJson(fixture.config), fixture.weights);
  const std::unique_ptr<SparseSession> session = SparseSession::Dense();
  constexpr int64_t kText = 1500;
  const int64_t video_tokens = GetParam();
  const WanTransformerConfig& config = model.config();
  const Tensor video = Tensor::Zeros({1, video_tokens, config.in_channels * 4});
  const Tensor text = Tensor::Zeros({1, kText, config.text_dim});
  const Tensor rotary = Tensor::Zeros({video_tokens, config.attention_head_dim});
  Tensor prediction({1, video_tokens, config.out_channels * 4}, DType::kF32);
  Context context(2);
  model.Forward(context,
                {.hidden_states = video,
                 .encoder_hidden_states = text,
                 .timestep = 500,
                 .rotary_cos = rotary,
                 .rotary_sin = rotary},
                session->invocation(0), prediction);
  const auto peak = static_cast<double>(context.workspace().peak_bytes());
  const auto operations = static_cast<double>(AttentionWorkspaceBytes(
      2, config.attention_head_dim, config.num_attention_heads * ((video_tokens + 191) / 192)));
  const auto plan = static_cast<double>(model.PlanBytes(1, kText, video_tokens)) + operations;
  EXPECT_LE(peak, plan * 1.001);
  EXPECT_GE(peak, plan * 0.98);
}

INSTANTIATE_TEST_SUITE_P(LongAndShortVideo, WanTransformerPlan, testing::Values(2000, 900));

TEST(WanTransformer, RefusesInputsThatDoNotFit) {
  const Fixture fixture("wan-tiny");
  const WanTransformer model(WanTransformerConfig::FromJson(fixture.config), fixture.weights);
  const std::unique_ptr<SparseSession> session = SparseSession::Dense();
  Context context;
  const Case recorded(fixture, 0);
  WanTransformerInputs inputs = recorded.Inputs();
  inputs.encoder_hidden_states = inputs.encoder_hidden_states.Slice(2, 0, 3);
  Tensor prediction(recorded.Get("output").shape(), DType::kF32);
  try {
    model.Forward(context, inputs, session->invocation(0), prediction);
    ADD_FAILURE() << "a narrow text embedding was accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("encoder_hidden_states"));
  }
}

TEST(WanTransformer, RefusesWeightsThatDoNotFitTheConfig) {
  const Fixture fixture("wan-tiny");
  WanTransformerConfig config = WanTransformerConfig::FromJson(fixture.config);
  config.num_layers = 3;
  try {
    WanTransformer(config, fixture.weights);
    ADD_FAILURE() << "a missing block was accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("blocks.2."));
  }
  config.num_layers = 2;
  config.patch_size = {2, 2, 2};
  try {
    WanTransformer(config, fixture.weights);
    ADD_FAILURE() << "another patch was accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("patch_embedding.weight"));
  }
}

TEST(WanTransformerConfig, RefusesBadFieldsByName) {
  const std::pair<const char*, const char*> cases[] = {
      {"image_dim", "1280"},       {"added_kv_proj_dim", "5120"}, {"pos_embed_seq_len", "514"},
      {"qk_norm", R"("layer")"},   {"patch_size", "[2, 2]"},      {"attention_head_dim", "17"},
      {"attention_head_dim", "4"}, {"num_layers", "0"},           {"freq_dim", "33"},
  };
  for (const auto& [field, value] : cases) {
    const JsonObject json = JsonObject::Parse(fmt::format(R"({{"{}": {}}})", field, value), "file");
    try {
      WanTransformerConfig::FromJson(json);
      ADD_FAILURE() << field << " " << value << " was accepted";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::StartsWith(fmt::format("file: field '{}'", field)));
    }
  }
}

}  // namespace
}  // namespace tamias
