// What the tests of the families' transformers share: recorded cases of diffusers, dense passes
// over a model, and what must hold of sparse steps, step caching and plans whatever the family.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <string>

#include "tamias/sparsity/sparse_session.h"
#include "tamias/sparsity/token_order.h"
#include "tests/support/bfloat16.h"
#include "tests/support/fixture.h"

namespace tamias {

// One recorded case: what diffusers was given and what it computed. A family's case adds Inputs().
class TransformerCase {
 public:
  TransformerCase(const Fixture& fixture, int index)
      : fixture_(fixture), prefix_(std::to_string(index) + ".") {}
  bool exists() const { return Has("output"); }
  bool Has(const std::string& name) const { return fixture_.cases.Has(prefix_ + name); }
  ConstTensorView Get(const std::string& name) const { return fixture_.cases.Get(prefix_ + name); }
  float Scalar(const std::string& name) const { return Get(name).data<float>()[0]; }
  ConstTensorView output() const { return Get("output"); }
  TokenGrid grid() const {
    const int32_t* sizes = Get("grid").data<int32_t>();
    return {.time = sizes[0], .height = sizes[1], .width = sizes[2]};
  }

 private:
  const Fixture& fixture_;
  std::string prefix_;
};

// [tokens, 3] f32: time, row and column of each token of a grid, in the given order.
inline Tensor TokenCoordinates(const TokenGrid& grid, const TokenOrder& order) {
  Tensor ids({grid.size(), 3}, DType::kF32);
  float* row = ids.data<float>();
  for (const int32_t token : order.tokens()) {
    *row++ = static_cast<float>(token / (grid.height * grid.width));
    *row++ = static_cast<float>(token / grid.width % grid.height);
    *row++ = static_cast<float>(token % grid.width);
  }
  return ids;
}

// Dense forward passes, one after another in the same workspace.
class DensePasses {
 public:
  explicit DensePasses(int threads = 0) : context_(threads) {}
  explicit DensePasses(const Placement& placement) : context_(placement) {}
  Context& context() { return context_; }

  // The prediction, of the given shape.
  template <typename Model, typename Inputs>
  Tensor Predict(const Model& model, const Inputs& inputs, const Shape& shape) {
    Tensor prediction(shape, DType::kF32);
    model.Forward(context_, inputs, session_->invocation(0), prediction);
    return prediction;
  }

  // The same with the tokens in another order (inputs' rotary tables are in it already), the
  // prediction brought back to rows.
  template <typename Model, typename Inputs>
  Tensor PredictInOrder(const Model& model, const TokenOrder& order, Inputs inputs,
                        const Shape& shape) {
    Tensor ordered(inputs.hidden_states.shape(), DType::kF32);
    order.Apply(context_, inputs.hidden_states, ordered);
    inputs.hidden_states = ordered;
    Tensor in_row_order(shape, DType::kF32);
    order.Invert(context_, Predict(model, inputs, shape), in_row_order);
    return in_row_order;
  }

 private:
  Context context_;
  std::unique_ptr<SparseSession> session_ = SparseSession::Dense();
};

// Expects predict(case) to be near the output of every recorded case; returns how many there are.
template <typename Case, typename Predict>
int ExpectCasesAgree(const Fixture& fixture, double tolerance, const Predict& predict) {
  int index = 0;
  for (; Case(fixture, index).exists(); ++index) {
    SCOPED_TRACE(index);
    const Case recorded(fixture, index);
    EXPECT_LT(RelativeL2(predict(recorded), recorded.output()), tolerance);
  }
  return index;
}

// The same in bf16 on the CPU, weights and activations rounded to it: within the 2e-2 that are
// asked of a whole model. Model: of Config, which FromJson reads; inputs_of(context, model, case)
// are in row order.
template <typename Model, typename Config, typename Case, typename InputsOf>
void ExpectCasesAgreeInBFloat16(const Fixture& fixture, const InputsOf& inputs_of) {
  DensePasses passes(BFloat16OnCpu());
  const Model model(Config::FromJson(fixture.config),
                    fixture.weights.CopyToDevice(passes.context()));
  const auto predict = [&](const Case& recorded) {
    return passes.Predict(model, inputs_of(passes.context(), model, recorded),
                          recorded.output().shape());
  };
  EXPECT_GT(ExpectCasesAgree<Case>(fixture, 2e-2, predict), 0);
}

// Sparse steps that select every column and neuron from the first layer on.
inline SparsityConfig SelectEverything() {
  SparsityConfig config;
  config.attn.top_keys = config.mlp.top_keys = 1;
  config.attn.first_n_dense_layers = config.mlp.first_n_dense_layers = 0;
  config.mlp.counts_multiple_of = 1;
  return config;
}

// The prediction of a sparse step after two full ones at another timestep, so that whatever a
// sparse step keeps would show.
template <typename Model, typename Inputs>
Tensor SparsePrediction(Context& context, const Model& model, SparseSession& session,
                        const Inputs& inputs, float other_timestep, const Shape& shape) {
  Inputs full = inputs;
  full.timestep = other_timestep;
  Tensor prediction(shape, DType::kF32);
  for (int step = 0; step < 3; ++step) {
    const bool is_last = step == 2;
    const StepKind kind = session.BeginStep(step);
    if (is_last) {
      EXPECT_EQ(kind, StepKind::kSparse);
    }
    model.Forward(context, is_last ? inputs : full, session.invocation(0), prediction);
    session.EndStep();
  }
  return prediction;
}

// Step caching alone, by how much the input has changed, of predictions; sparse deltas only where
// asked for.
inline SparsityConfig StepCaching(bool with_sparse_deltas = false) {
  SparsityConfig config;
  config.step_caching.reuse = StepReuse::kPrediction;
  config.attn.is_enabled = config.mlp.is_enabled = with_sparse_deltas;
  config.step_caching.is_enabled = true;
  config.step_caching.skip_step_schedule = {};
  config.step_caching.threshold = 0.5;
  return config;
}

// Expects the third step, whose timestep differs by a little, to give the second's prediction.
template <typename Model, typename Inputs>
void ExpectThirdStepIsSkipped(const Model& model, SparseSession& session, Inputs inputs,
                              float change, const Shape& shape) {
  Context context;
  Tensor first(shape, DType::kF32);
  Tensor second(shape, DType::kF32);
  for (int step = 0; step < 2; ++step) {  // full steps always run
    session.BeginStep(step);
    model.Forward(context, inputs, session.invocation(0), first);
  }
  session.BeginStep(2);
  inputs.timestep += change;
  model.Forward(context, inputs, session.invocation(0), second);
  session.EndStep();
  EXPECT_EQ(RelativeL2(second, first), 0);
}

// Expects a skipped step to send the hidden state of the step before through the last layer with
// its own modulation, as recorded from diffusers, and two skipped steps of the first's timestep to
// give the first's prediction. inputs: of the first recorded case of the fixture `name`.
template <typename Model, typename Inputs>
void ExpectHiddenStateIsReused(const std::string& name, const Model& model,
                               const SparseGeometry& geometry, const Inputs& inputs,
                               double tolerance) {
  const SafetensorsFile recorded(FixtureFolder("step-caching") / (name + ".safetensors"));
  const ConstTensorView expected = recorded.Get("output");
  Tensor nothing(inputs.hidden_states.shape(), DType::kF32);  // a skipped step reads no latents
  std::fill_n(nothing.data<float>(), nothing.NumElements(), NAN);
  for (const bool by_schedule : {true, false}) {
    SCOPED_TRACE(by_schedule ? "by schedule" : "by measured change");
    SparsityConfig config = SparsityConfig::Dense();
    config.step_caching.is_enabled = true;
    config.step_caching.skip_step_schedule = {1, 2, 3};
    if (!by_schedule) {
      config.step_caching.skip_step_schedule = {};
      config.step_caching.threshold = 1e6;
    }
    Context context(2);
    SparseSession session(config, {geometry});
    Inputs skipped = inputs;
    if (by_schedule) skipped.hidden_states = nothing;
    std::array<Tensor, 4> predictions;
    for (size_t step = 0; step < 4; ++step) {
      session.BeginStep(static_cast<int64_t>(step));
      skipped.timestep = step == 1 ? recorded.Get("timestep").data<float>()[0] : inputs.timestep;
      predictions[step] = Tensor(expected.shape(), DType::kF32);
      model.Forward(context, step == 0 ? inputs : skipped, session.invocation(0),
                    predictions[step]);
      session.EndStep();
    }
    EXPECT_EQ(session.report().CountSteps(StepKind::kSkip), 3);
    EXPECT_LT(RelativeL2(predictions[1], expected), tolerance);
    EXPECT_GT(RelativeL2(predictions[1], predictions[0]), 0.1);
    EXPECT_EQ(RelativeL2(predictions[2], predictions[0]), 0);
    EXPECT_EQ(RelativeL2(predictions[3], predictions[0]), 0);
  }
}

// Expects the calls of two texts to give the same predictions, by text, in either order.
inline void ExpectSwapped(const std::array<Tensor, 2>& in_order,
                          const std::array<Tensor, 2>& swapped) {
  EXPECT_EQ(RelativeL2(swapped[0], in_order[0]), 0);
  EXPECT_EQ(RelativeL2(swapped[1], in_order[1]), 0);
  EXPECT_GT(RelativeL2(in_order[1], in_order[0]), 1e-3);
}

}  // namespace tamias
