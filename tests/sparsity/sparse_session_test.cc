#include "tamias/sparsity/sparse_session.h"
#include "sparsity/report_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "ops/elementwise.h"
#include "sparsity/invocation_state.h"
#include "tests/support/compare_tensors.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"

namespace tamias {
namespace {

using ::testing::HasSubstr;

// A model of two layers, attention and MLP, and a last layer that maps latents to a prediction:
// `modulation`, the step's, times the hidden state.
class ToyModel {
 public:
  static constexpr int64_t kHeads = 2, kHeadDim = 8, kModelDim = 16, kMlpDim = 32, kText = 5;

  ToyModel()
      : fc1_(RandomTensor({kMlpDim, kModelDim}, 1, 0.4f)),
        fc2_(RandomTensor({kModelDim, kMlpDim}, 2, 0.4f)),
        transposed_({kMlpDim, kModelDim}, DType::kF32) {
    CopyOnHost(fc2_.view().Permute({1, 0}), transposed_.view());
  }

  static SparseGeometry Geometry() {
    SparseGeometry g;
    g.text_tokens = kText;
    g.grid = {1, 12, 12};
    g.num_layers = 2;
    g.num_heads = kHeads;
    g.head_dim = kHeadDim;
    g.model_dim = kModelDim;
    g.mlp_dim = kMlpDim;
    g.mlp_tokens = {g.joint_tokens(), g.joint_tokens()};
    g.prediction_channels = kModelDim;
    return g;
  }
  // With classifier-free guidance.
  static std::vector<SparseGeometry> TwoInvocations() { return {Geometry(), Geometry()}; }

  // x [1, L + N, d] -> prediction of the image tokens [1, N, d].
  Tensor Forward(Context& context, const Tensor& x, SparseInvocation& invocation,
                 float modulation = 1) const {
    const int64_t tokens = x.dim(1);
    Tensor prediction({1, tokens - kText, kModelDim}, DType::kF32);
    if (invocation.IsSkipped() ||
        !invocation.BeginForward(context, x.view().Slice(1, kText, tokens))) {
      Tensor reused(prediction.shape(), DType::kF32);
      if (invocation.CachedHidden(context, reused)) {
        ScaleShift(context, reused, modulation, 0, prediction);
      } else {
        invocation.CachedPrediction(context, prediction);
      }
      return prediction;
    }
    Tensor hidden = Tensor::CopyOf(x.view());
    for (int layer = 0; layer < 2; ++layer) {
      Tensor attended({1, tokens, kModelDim}, DType::kF32);
      const auto heads = [](const auto& view) {
        return view.SplitAxis(2, kHeads, kHeadDim).Permute({0, 2, 1, 3});
      };
      const ConstTensorView h = heads(static_cast<const Tensor&>(hidden).view());
      invocation.Attention(context, layer, {h, h, h, 1.0f}, heads(attended.view()));
      invocation.Mlp(context, layer,
                     {.fc1_weight = fc1_.view(),
                      .fc1_bias = {},
                      .fc2_weight = fc2_.view(),
                      .fc2_weight_transposed = transposed_.view(),
                      .fc2_bias = {}},
                     attended.view(), hidden.view());
    }
    const ConstTensorView image = hidden.view().Slice(1, kText, tokens);
    invocation.StoreHidden(context, image);
    ScaleShift(context, image, modulation, 0, prediction);
    invocation.StorePrediction(context, prediction.view());
    return prediction;
  }

 private:
  Tensor fc1_, fc2_, transposed_;
};

SparsityConfig Config() {
  SparsityConfig config;
  config.attn.top_keys = 0.2;
  config.attn.counts_multiple_of = 1;
  config.attn.mbm = 48;
  config.attn.first_n_dense_layers = 1;
  config.attn.merge = AttentionMerge::kLse;
  config.attn.full_step_every = 4;
  config.mlp.counts_multiple_of = 1;
  config.mlp.mbm = 32;
  config.mlp.full_step_every = 4;
  config.mlp.first_n_dense_layers = 0;
  return config;
}

// Latents that drift in one direction from step to step, as in denoising.
Tensor Latents(int64_t step, uint64_t seed) {
  const Tensor start = RandomTensor({1, 149, ToyModel::kModelDim}, seed);
  return Moved(start, seed + 1000, 0.01f * static_cast<float>(step));
}

float Modulation(int64_t step) { return 1 + 0.25f * static_cast<float>(step); }

// The predictions of both invocations over some steps; `order` says which runs first.
std::vector<Tensor> Generate(SparseSession& session, int64_t steps, uint64_t seed, int first = 0,
                             int threads = 2) {
  const ToyModel model;
  Context context(threads);
  std::vector<Tensor> results(static_cast<size_t>(2 * steps));
  for (int64_t step = 0; step < steps; ++step) {
    session.BeginStep(step);
    for (const int i : {first, 1 - first}) {
      const Tensor x = Latents(step, seed + static_cast<uint64_t>(i));
      results[static_cast<size_t>(2 * step + i)] =
          model.Forward(context, x, session.invocation(i), Modulation(step));
    }
    session.EndStep();
  }
  return results;
}

void ExpectEqual(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(RelativeL2(a[i], b[i]), 0) << i;
}

TEST(SparseSession, AllocatesExactlyWhatItPlans) {
  for (const bool compresses : {false, true}) {
    for (const auto& [merge, sums] : {std::pair{AttentionMerge::kAdditive, ColumnSums::kExact},
                                      std::pair{AttentionMerge::kLse, ColumnSums::kPooled},
                                      std::pair{AttentionMerge::kPooled, ColumnSums::kExact},
                                      std::pair{AttentionMerge::kPooled, ColumnSums::kPooled}}) {
      SparsityConfig config = Config();
      config.attn.should_compress_indices = compresses;
      config.attn.merge = merge;
      config.attn.column_sums = sums;
      config.step_caching.is_enabled = true;
      config.step_caching.threshold = 0.1;
      config.step_caching.reuse = compresses ? StepReuse::kHidden : StepReuse::kExtrapolate;
      const StatePlan plan = SparseSession::Plan(config, ToyModel::TwoInvocations());
      const SparseSession session(config, ToyModel::TwoInvocations());
      EXPECT_EQ(session.allocated_bytes(), plan.TotalBytes());
      EXPECT_EQ(session.report().state_bytes, plan.TotalBytes());
      for (const StatePlace place : {StatePlace{}, StatePlace{.is_file = true}}) {
        const Context planning = Context::Planning();
        const SparseSession planned(planning, config, ToyModel::TwoInvocations(), place);
        EXPECT_EQ(planned.allocated_bytes(), plan.TotalBytes());
        EXPECT_EQ(planned.plan().ToString(), plan.ToString());
      }
    }
  }
}

TEST(SparseSession, ItsKindsOfStepsAreThoseThatTheConfigurationHas) {
  const auto names = [](const SparsityConfig& config) {
    std::string text;
    const SparseSession session(config, ToyModel::TwoInvocations());
    for (const StepPlan& kind : session.KindsOfSteps()) text += std::string(Name(kind.kind)) + " ";
    return text;
  };
  SparsityConfig config = Config();
  EXPECT_EQ(names(config), "full full full sparse ");
  config.step_caching.is_enabled = true;
  EXPECT_EQ(names(config), "full full full sparse skip ");
  config.attn.is_enabled = config.mlp.is_enabled = false;
  EXPECT_EQ(names(config), "full skip ");
  EXPECT_EQ(names(SparsityConfig::Dense()), "full ");
}

TEST(SparseSession, PlansStateThatNoMachineHolds) {
  SparseGeometry g = ToyModel::Geometry();
  g.num_heads = 1'000'000;
  const Context planning = Context::Planning();
  const SparseSession session(planning, Config(), {g});
  EXPECT_GT(session.allocated_bytes(), size_t{1} << 32);
}

TEST(SparseSession, PlanAddsUpToTheShapesOfTheState) {
  SparsityConfig config = Config();
  const SparseGeometry g = ToyModel::Geometry();
  const StatePlan plan = SparseSession::Plan(config, {g, g});
  const auto bytes = [&](const std::string& name) {
    for (const StatePlan::Entry& entry : plan.entries) {
      if (entry.name == name) return entry.bytes;
    }
    return size_t{0};
  };
  // Two invocations; attention is a delta in one layer, the MLP in two.
  EXPECT_EQ(bytes("attention output cache"), 2u * 2 * 144 * 8 * 4);
  EXPECT_EQ(bytes("attention log-sum-exp"), 2u * 2 * 2 * 144 * 4);
  EXPECT_EQ(bytes("attention selection"), 2u * 2 * 3 * 19);       // bits of 149 columns
  EXPECT_EQ(bytes("MLP activations"), 2u * 2 * 5 * 32 * 32 * 4);  // blocks x F x 32 rows
  EXPECT_EQ(bytes("MLP output cache"), 2u * 2 * 149 * 16 * 4);
  EXPECT_EQ(bytes("MLP block means"), 2u * 2 * 5 * 32 * 4);
  EXPECT_EQ(bytes("MLP selection"), 2u * 2 * 5 * (32 + 1) * 4);
}

TEST(SparseSession, KeepsNothingOfAttentionButTheSelectionWithoutDeltas) {
  SparsityConfig config = Config();
  config.attn.merge = AttentionMerge::kPooled;
  config.attn.column_sums = ColumnSums::kPooled;
  config.mlp.is_enabled = false;
  const StatePlan plan = SparseSession::Plan(config, ToyModel::TwoInvocations());
  ASSERT_EQ(plan.entries.size(), 2u) << plan.ToString();
  EXPECT_EQ(plan.entries[0].name, "attention static columns");
  EXPECT_EQ(plan.entries[1].name, "attention selection");
  EXPECT_EQ(plan.entries[1].bytes, 2u * 2 * 3 * 19);
}

// No step need be full: what few-step models want.
TEST(SparseSession, PooledColumnsWithoutDeltasAreSparseFromTheFirstStepOn) {
  SparsityConfig config = Config();
  config.attn.merge = AttentionMerge::kPooled;
  config.attn.column_sums = ColumnSums::kPooled;
  config.attn.full_step_schedule.emplace();
  config.mlp.is_enabled = false;
  SparseSession sparse(config, ToyModel::TwoInvocations());
  SparseSession again(config, ToyModel::TwoInvocations());
  ExpectEqual(Generate(sparse, 4, 7), Generate(again, 4, 7));
  EXPECT_EQ(sparse.report().CountSteps(StepKind::kSparse), 4);
  for (const StepReport& step : sparse.report().steps) {
    EXPECT_GT(step.Attention().Sparsity(), 0.3);  // one of two layers
  }
  SparseSession dense(SparsityConfig::Dense(), ToyModel::TwoInvocations());
  config.attn.top_keys = 1;
  SparseSession everything(config, ToyModel::TwoInvocations());
  const auto expected = Generate(dense, 4, 7);
  const auto actual = Generate(everything, 4, 7);
  for (size_t i = 0; i < actual.size(); ++i) EXPECT_LT(RelativeL2(actual[i], expected[i]), 1e-5);
}

TEST(SparseSession, DenseHoldsNothingAndComputesDensely) {
  SparseSession dense(SparsityConfig::Dense(), ToyModel::TwoInvocations());
  EXPECT_EQ(dense.allocated_bytes(), 0u);
  const auto results = Generate(dense, 3, 7);
  EXPECT_EQ(dense.report().AttentionSparsity(), 0);
  EXPECT_EQ(dense.report().CountSteps(StepKind::kFull), 3);
  SparsityConfig everything = Config();
  everything.attn.full_step_every = 1;
  everything.mlp.full_step_every = 1;
  SparseSession full(everything, ToyModel::TwoInvocations());
  const auto full_results = Generate(full, 3, 7);
  for (size_t i = 0; i < results.size(); ++i) {
    EXPECT_LT(RelativeL2(full_results[i], results[i]), 1e-5);
  }
}

TEST(SparseSession, StaysNearTheDenseResultAndReportsWhatItSkipped) {
  SparseSession dense(SparsityConfig::Dense(), ToyModel::TwoInvocations());
  SparseSession sparse(Config(), ToyModel::TwoInvocations());
  const auto expected = Generate(dense, 8, 7);
  const auto actual = Generate(sparse, 8, 7);
  for (size_t i = 0; i < actual.size(); ++i) EXPECT_LT(RelativeL2(actual[i], expected[i]), 0.1);
  const SparsityReport& report = sparse.report();
  ASSERT_EQ(report.steps.size(), 8u);
  EXPECT_EQ(report.CountSteps(StepKind::kFull), 3);  // 0, 1, 4
  EXPECT_EQ(report.CountSteps(StepKind::kSparse), 5);
  EXPECT_EQ(report.steps[1].Attention().Sparsity(), 0);
  EXPECT_GT(report.steps[2].Attention().Sparsity(), 0.3);  // one of two layers
  EXPECT_GT(report.steps[2].Mlp().Sparsity(), 0.6);
  EXPECT_GT(report.AttentionSparsity(), 0.2);
  EXPECT_LT(report.AttentionSparsity(), report.steps[2].Attention().Sparsity());
  for (const LayerReport& layer : report.steps[4].layers) {
    EXPECT_EQ(layer.attention_drift.Relative() >= 0, layer.layer == 1);
    EXPECT_GE(layer.mlp_drift.Relative(), 0);
    EXPECT_LT(layer.mlp_drift.Relative(), 0.2);
  }
  EXPECT_GT(report.Stages().attention, 0);
  EXPECT_GT(report.steps[0].seconds, 0);
}

TEST(SparseSession, ReportHasAJsonForm) {
  SparseSession session(Config(), ToyModel::TwoInvocations());
  Generate(session, 5, 7);
  const nlohmann::json json = ToJson(session.report());
  EXPECT_EQ(json["full_steps"], 3);
  EXPECT_EQ(json["sparse_steps"], 2);
  EXPECT_EQ(json["skipped_steps"], 0);
  EXPECT_EQ(json["state_bytes"], session.allocated_bytes());
  EXPECT_EQ(json["steps"].size(), 5u);
  EXPECT_EQ(json["steps"][2]["kind"], "sparse");
  EXPECT_TRUE(json["steps"][2]["mlp_drift"].is_null());
  EXPECT_GE(json["steps"][4]["mlp_drift"].get<double>(), 0);
  EXPECT_EQ(json["steps"][4]["layers"].size(), 4u);
  EXPECT_EQ(json["steps"][4]["layers"][3]["layer"], 1);
  EXPECT_EQ(json["steps"][4]["layers"][3]["invocation"], 1);
  EXPECT_TRUE(json["stage_seconds"].contains("attention_selection"));
  EXPECT_DOUBLE_EQ(json["attention_sparsity"].get<double>(), session.report().AttentionSparsity());
}

TEST(SparseSession, TwoSessionsDoNotSeeEachOther) {
  SparseSession alone(Config(), ToyModel::TwoInvocations());
  const auto expected = Generate(alone, 6, 7);
  SparseSession a(Config(), ToyModel::TwoInvocations());
  SparseSession b(Config(), ToyModel::TwoInvocations());
  const ToyModel model;
  Context context(2);
  std::vector<Tensor> actual(12);
  for (int64_t step = 0; step < 6; ++step) {
    a.BeginStep(step);
    b.BeginStep(step);
    for (int i = 0; i < 2; ++i) {
      model.Forward(context, Latents(step, 100 + static_cast<uint64_t>(i)), b.invocation(i));
      actual[static_cast<size_t>(2 * step + i)] = model.Forward(
          context, Latents(step, 7 + static_cast<uint64_t>(i)), a.invocation(i), Modulation(step));
    }
  }
  ExpectEqual(actual, expected);
}

// The predictions of both invocations over five steps from `first` on, of latents that begin anew.
std::vector<Tensor> GenerateFrom(SparseSession& session, int64_t first, uint64_t seed) {
  const ToyModel model;
  Context context(2);
  std::vector<Tensor> results;
  for (int64_t step = 0; step < 5; ++step) {
    session.BeginStep(first + step, static_cast<double>(step));
    for (const int i : {0, 1}) {
      const Tensor x = Latents(step, seed + static_cast<uint64_t>(i));
      results.push_back(model.Forward(context, x, session.invocation(i), Modulation(step)));
    }
  }
  return results;
}

TEST(SparseSession, AfterARestartItRemembersNothing) {
  for (const StepReuse reuse : {StepReuse::kHidden, StepReuse::kExtrapolate}) {
    for (const double threshold : {0.0, 0.1}) {
      SparsityConfig config = Config();
      config.attn.full_step_every = 100;
      config.mlp.full_step_every = 100;
      config.mlp.random_keys = 0;
      config.step_caching.is_enabled = true;
      config.step_caching.reuse = reuse;
      config.step_caching.threshold = threshold;
      config.step_caching.skip_step_schedule = {3, 5, 8};
      SparseSession used(config, ToyModel::TwoInvocations());
      GenerateFrom(used, 0, 7);
      used.Restart();
      SparseSession fresh(config, ToyModel::TwoInvocations());
      ExpectEqual(GenerateFrom(used, 5, 3), GenerateFrom(fresh, 0, 3));
      const std::vector<StepReport>& steps = used.report().steps;
      ASSERT_EQ(steps.size(), 10u);
      EXPECT_EQ(steps[5].kind, StepKind::kFull) << "though the schedule would skip it";
      EXPECT_EQ(steps[8].kind, StepKind::kSkip);
    }
  }
}

TEST(SparseSession, TheOrderOfInvocationsDoesNotMatter) {
  SparseSession a(Config(), ToyModel::TwoInvocations());
  SparseSession b(Config(), ToyModel::TwoInvocations());
  ExpectEqual(Generate(a, 6, 7, /*first=*/0), Generate(b, 6, 7, /*first=*/1));
}

// The prompts of classifier-free guidance differ in length: each invocation is as if it were alone.
TEST(SparseSession, InvocationsMayDifferInTextTokens) {
  SparsityConfig config = Config();
  config.mlp.is_enabled = false;
  const auto geometry = [](int64_t text_tokens) {
    SparseGeometry g = ToyModel::Geometry();
    g.text_tokens = text_tokens;
    return g;
  };
  const std::vector<SparseGeometry> geometries = {geometry(5), geometry(0)};
  SparseSession together(config, geometries);
  Context context(2);
  for (int invocation = 0; invocation < 2; ++invocation) {
    const SparseGeometry& g = geometries[static_cast<size_t>(invocation)];
    SparseSession alone(config, std::vector{g});
    SparseSession both(config, geometries);
    for (int64_t step = 0; step < 4; ++step) {
      const Tensor x = Moved(RandomTensor({1, ToyModel::kHeads, g.joint_tokens(), 8}, 3), 4,
                             0.01f * static_cast<float>(step));
      Tensor expected(x.shape(), DType::kF32);
      Tensor actual(x.shape(), DType::kF32);
      alone.BeginStep(step);
      both.BeginStep(step);
      alone.invocation(0).Attention(context, 1, {x, x, x, 1.0f}, expected);
      both.invocation(invocation).Attention(context, 1, {x, x, x, 1.0f}, actual);
      EXPECT_EQ(RelativeL2(actual, expected), 0)
          << "invocation " << invocation << ", step " << step;
    }
    EXPECT_EQ(alone.report().steps.back().kind, StepKind::kSparse);
  }
  EXPECT_EQ(together.allocated_bytes(), SparseSession::Plan(config, geometries).TotalBytes());
}

TEST(SparseSession, InvocationsOfDifferentGridsAreRefused) {
  SparseGeometry other = ToyModel::Geometry();
  other.grid.width += 1;
  EXPECT_THROW(SparseSession(Config(), std::vector{ToyModel::Geometry(), other}), Error);
  EXPECT_THROW(SparseSession(Config(), std::vector<SparseGeometry>{}), Error);
}

TEST(SparseSession, SpilledStateGivesTheSameBytes) {
  SparsityConfig config = Config();
  config.step_caching.is_enabled = true;
  config.step_caching.skip_step_schedule = {4};
  config.step_caching.threshold = 1e-3;
  for (const StepReuse reuse : {StepReuse::kHidden, StepReuse::kExtrapolate}) {
    for (const DType cache : {DType::kF32, DType::kBF16}) {
      config.step_caching.reuse = reuse;
      config.attn.cache_dtype = cache;
      const StatePlan plan = SparseSession::Plan(config, ToyModel::TwoInvocations());
      EXPECT_GE(plan.spill_bytes, plan.TotalBytes() / 2);
      EXPECT_LT(plan.spill_resident_bytes, plan.spill_bytes / 2) << "one part at a time";
      SparseSession in_memory(config, ToyModel::TwoInvocations());
      SparseSession spilled(config, ToyModel::TwoInvocations(), {.is_file = true});
      ExpectEqual(Generate(in_memory, 6, 7), Generate(spilled, 6, 7));
      EXPECT_EQ(in_memory.allocated_bytes(), spilled.allocated_bytes());
      EXPECT_EQ(in_memory.allocated_bytes(), plan.TotalBytes());
    }
  }
}

TEST(SparseSession, RefusesPinnedMemoryOfACpusState) {
  EXPECT_THAT(
      ErrorOf([] { SparseSession(Config(), ToyModel::TwoInvocations(), {.host_layers = 1}); },
              ErrorCode::kUnsupported),
      testing::HasSubstr("state on cpu cannot be kept in pinned memory"));
}

TEST(SparseSession, SelectionsDoNotDependOnTheNumberOfThreads) {
  SparseSession a(Config(), ToyModel::TwoInvocations());
  SparseSession b(Config(), ToyModel::TwoInvocations());
  const auto one = Generate(a, 6, 7, 0, 1);
  const auto three = Generate(b, 6, 7, 0, 3);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_LT(RelativeL2(one[i], three[i]), 1e-4);
  for (size_t s = 0; s < 6; ++s) {
    EXPECT_EQ(a.report().steps[s].Attention().done, b.report().steps[s].Attention().done);
    EXPECT_EQ(a.report().steps[s].Mlp().done, b.report().steps[s].Mlp().done);
  }
}

// Each invocation its own, with the modulation of the skipped step.
TEST(SparseSession, SkippedStepsReuseTheHiddenState) {
  SparsityConfig config = Config();
  config.step_caching.is_enabled = true;
  config.step_caching.skip_step_schedule = {3, 4};
  SparseSession session(config, ToyModel::TwoInvocations());
  const auto results = Generate(session, 6, 7);
  Context context(1);
  for (size_t step = 3; step < 5; ++step) {
    for (size_t i = 0; i < 2; ++i) {
      Tensor expected(results[4 + i].shape(), DType::kF32);
      const float factor = Modulation(static_cast<int64_t>(step)) / Modulation(2);
      ScaleShift(context, results[4 + i], factor, 0, expected);
      EXPECT_LT(RelativeL2(results[2 * step + i], expected), 1e-6) << step;
    }
  }
  EXPECT_GT(RelativeL2(results[6], results[7]), 1e-3) << "the invocations differ";
  EXPECT_EQ(session.report().CountSteps(StepKind::kSkip), 2);
}

TEST(SparseSession, SkippedStepsRepeatThePreviousPrediction) {
  SparsityConfig config = Config();
  config.step_caching.reuse = StepReuse::kPrediction;
  config.step_caching.is_enabled = true;
  config.step_caching.skip_step_schedule = {3, 5};
  SparseSession session(config, ToyModel::TwoInvocations());
  const auto results = Generate(session, 6, 7);
  for (const size_t step : {size_t{3}, size_t{5}}) {
    EXPECT_EQ(session.report().steps[step].kind, StepKind::kSkip);
    EXPECT_EQ(RelativeL2(results[2 * step], results[2 * step - 2]), 0);
    EXPECT_EQ(RelativeL2(results[2 * step + 1], results[2 * step - 1]), 0);
  }
  EXPECT_EQ(session.report().CountSteps(StepKind::kSkip), 2);
}

TEST(SparseSession, MeasuredChangeSkipsStepsButNoFullOnes) {
  SparsityConfig config = Config();
  config.mlp.full_step_every = 3;
  config.step_caching.is_enabled = true;
  config.step_caching.skip_step_schedule = {};
  config.step_caching.threshold = 1e5;
  config.step_caching.reuse = StepReuse::kPrediction;
  SparseSession session(config, ToyModel::TwoInvocations());
  const auto results = Generate(session, 6, 7);
  std::string kinds;
  for (const StepReport& step : session.report().steps) kinds += Name(step.kind)[1];
  // full, full, skip, sparse (the MLPs alone are full), full, skip
  EXPECT_EQ(kinds, "uukpuk");
  EXPECT_EQ(RelativeL2(results[4], results[2]), 0);
  EXPECT_GT(session.report().Stages().step_cache, 0);
}

// What a configuration leads to: results, report, memory, token order, warnings.
struct Outcome {
  std::string behaviour;
  std::vector<std::string> warnings;
};

Outcome OutcomeOf(const SparsityConfig& config) {
  SparseSession session(config, ToyModel::TwoInvocations());
  Outcome outcome;
  for (const Tensor& result : Generate(session, 15, 7)) {
    double sum = 0;
    for (int64_t i = 0; i < result.NumElements(); ++i) {
      sum += static_cast<double>(i % 7 + 1) * result.data<float>()[i];
    }
    outcome.behaviour += std::to_string(sum) + " ";
  }
  for (const StepReport& step : session.report().steps) {
    outcome.behaviour += std::string(Name(step.kind)) + " ";
    for (const LayerReport& layer : step.layers) {
      outcome.behaviour += std::to_string(layer.attention_drift.Relative()) + " ";
    }
  }
  for (const int32_t token : session.token_order().tokens()) {
    outcome.behaviour += std::to_string(token) + " ";
  }
  outcome.behaviour += std::to_string(session.allocated_bytes());
  outcome.warnings = ConfigWarnings(config, {.num_steps = 50, .num_invocations = 2});
  return outcome;
}

TEST(SparseSession, EveryKeyChangesSomethingOrIsReportedToHaveNoEffect) {
  SparsityConfig base = Config();
  base.attn.full_step_schedule = {0, 1, 6};  // a full step, so that masks can be recomputed
  base.step_caching.is_enabled = true;
  base.step_caching.skip_step_schedule = {9};
  // Away from their defaults, for keys that matter only then.
  const std::vector<std::string> effects = {
      "should_profile=true",
      "mlp.is_enabled=false",
      "mlp.is_fp8=true",
      "mlp.top_keys=0.5",
      "mlp.random_keys=0.2",
      "mlp.full_step_every=5",
      "mlp.block_mask_cache=1",
      "mlp.first_n_dense_layers=1",
      "mlp.counts_multiple_of=16",
      "mlp.mbm=64",
      "patchify.is_enabled=false",
      "patchify.chunk_size_1=4",
      "patchify.chunk_size_2=2",
      "attn.is_enabled=false",
      "attn.top_keys=0.5",
      "attn.random_keys=0.2",
      "attn.local_voxels=2",
      "attn.local_1d_window=0.5",
      "attn.first_n_dense_layers=0",
      "attn.full_step_schedule=null",
      "attn.recompute_mask=false",
      "attn.should_compress_indices=false",
      "attn.counts_multiple_of=64",
      "attn.mbm=64",
      "attn.merge=additive",
      "attn.merge=pooled",
      "attn.column_sums=pooled",
      "attn.cache_dtype=bf16",
      "step_caching.is_enabled=false",
      "step_caching.skip_step_schedule=[4]",
      "step_caching.threshold=1000",
      "step_caching.reuse=prediction",
      "step_caching.reuse=extrapolate",
  };
  std::set<std::string> seen;
  const Outcome expected = OutcomeOf(base);
  for (const std::string& assignment : effects) {
    SparsityConfig config = base;
    Apply(config, assignment);
    EXPECT_TRUE(OutcomeOf(config).behaviour != expected.behaviour) << assignment;
    seen.insert(assignment.substr(0, assignment.find('=')));
  }
  {  // full_step_every counts without a schedule
    SparsityConfig config = base;
    config.attn.full_step_schedule.reset();
    const Outcome every_four = OutcomeOf(config);
    Apply(config, "attn.full_step_every=5");
    EXPECT_NE(OutcomeOf(config).behaviour, every_four.behaviour);
    seen.insert("attn.full_step_every");
  }
  for (const std::string& key : SparsityConfigKeys()) {
    if (seen.contains(key)) continue;
    const bool is_number = key == "num_model_invocations_per_inference_step" || key == "steps" ||
                           key == "world_size" || key == "generation_index" || key == "mlp.bm";
    SparsityConfig config = base;
    Apply(config, key + (is_number ? "=7" : "=true"));
    const Outcome outcome = OutcomeOf(config);
    EXPECT_EQ(outcome.behaviour, expected.behaviour) << key;
    ASSERT_EQ(outcome.warnings.size(), expected.warnings.size() + 1) << key;
    EXPECT_THAT(outcome.warnings.back(), HasSubstr(key));
  }
}

TEST(SparseSession, StepsFollowEachOther) {
  SparseSession session(Config(), ToyModel::TwoInvocations());
  EXPECT_THROW(session.BeginStep(1), Error);
  session.BeginStep(0);
  EXPECT_THROW(session.BeginStep(0), Error);
  EXPECT_THROW(session.invocation(2), Error);
}

TEST(SparseSession, RefusesToRunBeforeAStepHasBegun) {
  SparseSession session(Config(), ToyModel::TwoInvocations());
  Context context(1);
  EXPECT_THROW(ToyModel().Forward(context, Latents(0, 1), session.invocation(0)), Error);
}

TEST(SparseSession, DenseWithoutAGeometryServesAnyModel) {
  const auto dense = SparseSession::Dense(2);
  SparseSession stepped(SparsityConfig::Dense(), ToyModel::TwoInvocations());
  stepped.BeginStep(0);
  Context context(2);
  const ToyModel model;
  const Tensor x = Latents(0, 1);
  EXPECT_EQ(RelativeL2(model.Forward(context, x, dense->invocation(1)),
                       model.Forward(context, x, stepped.invocation(1))),
            0);
}

TEST(SparseSession, RefusesGeometriesThatContradictThemselves) {
  SparseGeometry g = ToyModel::Geometry();
  g.mlp_tokens.pop_back();
  EXPECT_THROW(SparseSession(Config(), g), Error);
  g = ToyModel::Geometry();
  g.grid.width = 0;
  EXPECT_THROW(SparseSession(Config(), g), Error);
  g = ToyModel::Geometry();
  g.num_heads = 0;
  EXPECT_THROW(SparseSession(Config(), g), Error);
  for (const std::vector<int64_t>& bounds :
       {std::vector<int64_t>{0, 144, 144}, {0, 32}, {16, 144}, {0, 32, 64, 144}, {144}}) {
    g = ToyModel::Geometry();
    g.rank_bounds = bounds;
    EXPECT_THAT(ArgumentErrorOf([&] { SparseSession::Plan(Config(), {g}); }),
                HasSubstr("rank_bounds: expected ascending bounds of 144 image tokens"));
  }
}

// Static columns are of all groups, and each rank has them.
TEST(SparseSession, RanksHaveTheStateOfTheWholeBetweenThem) {
  SparsityConfig config = Config();
  config.mlp.mbm = 16;
  config.step_caching.is_enabled = true;
  SparseGeometry g = ToyModel::Geometry();
  const StatePlan whole = SparseSession::Plan(config, {g});
  std::map<std::string, size_t> sums;
  g.rank_bounds = {0, 75, 144};  // whole groups after the 5 tokens of text
  for (g.rank = 0; g.rank < 2; ++g.rank) {
    for (const auto& [name, bytes] : SparseSession::Plan(config, {g}).entries) sums[name] += bytes;
  }
  for (const auto& [name, bytes] : whole.entries) {
    EXPECT_EQ(sums[name], (name == "attention static columns" ? 2 : 1) * bytes) << name;
  }
}

TEST(SparseSession, StateThatCannotFitIsRefusedWithThePlan) {
  SparseGeometry g = ToyModel::Geometry();
  g.grid = {1, 1024, 1024};
  g.num_heads = 1000;
  g.head_dim = 128;
  g.mlp_tokens = {0, 0};
  ExpectError(ErrorCode::kOutOfMemory, "attention output cache", [&] {
    SparseSession session(Config(), std::vector{g, g});
  });
  g.grid = {1, 1000000, 1000000};
  EXPECT_THROW(SparseSession::Plan(Config(), {g, g}), Error);
}

// Guidance multiplies the difference of the invocations: with the same input, and so the same
// selection, there must be none, however little is kept.
TEST(SparseSession, InvocationsDrawTheSameRandomColumnsAndNeurons) {
  SparsityConfig config = Config();
  config.attn.top_keys = 0;
  config.attn.random_keys = 0.3;
  config.mlp.top_keys = 0;
  config.mlp.random_keys = 0.3;
  SparseSession session(config, ToyModel::TwoInvocations());
  const ToyModel model;
  Context context(2);
  for (int64_t step = 0; step < 4; ++step) {
    session.BeginStep(step);
    const Tensor first = model.Forward(context, Latents(step, 7), session.invocation(0));
    const Tensor second = model.Forward(context, Latents(step, 7), session.invocation(1));
    EXPECT_EQ(RelativeL2(first, second), 0);
  }
}

}  // namespace
}  // namespace tamias
