// What the tests of plans share: code run dry with views without memory takes from the workspace
// what it really takes, for transformers through every kind of step that there is.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>

#include "base/dry_run.h"
#include "tamias/sparsity/sparse_session.h"

namespace tamias {

// A plan of at least the real peak and at most a twentieth more.
inline void ExpectPlanned(size_t planned, const Context& context, size_t peak) {
  SCOPED_TRACE(context.threads());
  EXPECT_GE(planned, peak);
  EXPECT_LE(static_cast<double>(planned), 1.05 * static_cast<double>(peak) + 65'536);
}

// encode(context) is run dry and really, at one and at two threads.
template <typename Encode>
void ExpectRunsDry(const Encode& encode) {
  for (const int threads : {1, 2}) {
    Context context(threads);
    encode(context);
    ExpectPlanned(PlannedWorkspace({}, threads, encode), context, context.workspace().peak_bytes());
  }
}

// The tensor, or with a planning context one of its shape on the context's device.
inline ConstTensorView InContext(const Context& context, ConstTensorView tensor) {
  if (!context.IsPlanning() || tensor.empty()) return tensor;
  return TensorView::WithoutMemory(tensor.shape(), tensor.dtype(), context.device());
}

template <typename Inputs>
Inputs InputsInContext(const Context& context, Inputs inputs) {
  inputs.hidden_states = InContext(context, inputs.hidden_states);
  inputs.encoder_hidden_states = InContext(context, inputs.encoder_hidden_states);
  inputs.rotary_cos = InContext(context, inputs.rotary_cos);
  inputs.rotary_sin = InContext(context, inputs.rotary_sin);
  if constexpr (requires { inputs.pooled_projections; }) {
    inputs.pooled_projections = InContext(context, inputs.pooled_projections);
  }
  if constexpr (requires { inputs.encoder_hidden_states_image; }) {
    inputs.encoder_hidden_states_image = InContext(context, inputs.encoder_hidden_states_image);
  }
  return inputs;
}

// Runs a model dry through the kinds of steps that the session has.
template <typename Model, typename Inputs>
void RunDry(Context& context, const Model& model, SparseSession& session, const Inputs& inputs,
            const Shape& prediction) {
  for (const StepPlan& kind : session.KindsOfSteps()) {
    session.BeginPlannedStep(kind);
    model.Forward(context, InputsInContext(context, inputs), session.invocation(0),
                  TensorView::WithoutMemory(prediction, DType::kF32, context.device()));
  }
}

// Full steps 0, 1 and 4 (of the MLP 0 and 4), sparse ones 2 and 3, a skipped one.
inline SparsityConfig EveryKindOfStep() {
  SparsityConfig config;
  config.attn.first_n_dense_layers = config.mlp.first_n_dense_layers = 0;
  config.attn.full_step_schedule = {0, 1, 4};
  config.attn.top_keys = 0.3;
  config.attn.local_1d_window = 0.1;
  config.attn.counts_multiple_of = config.mlp.counts_multiple_of = 1;
  config.attn.mbm = 32;
  config.mlp.full_step_every = 4;
  config.mlp.mbm = 64;
  config.step_caching.is_enabled = true;
  config.step_caching.skip_step_schedule = {5};
  return config;
}
inline constexpr int64_t kStepsOfEveryKind = 6;

// The peak of real steps against that of dry ones, dense and sparse, at one and at two threads.
template <typename Model, typename Inputs>
void ExpectStepsRunDry(Model& model, const SparseGeometry& geometry, const Inputs& inputs,
                       const Shape& prediction_shape) {
  Context prepared(2);
  model.PrepareForSparsity(prepared);
  Tensor prediction(prediction_shape, DType::kF32);
  SparsityConfig measured = EveryKindOfStep();
  measured.attn.merge = AttentionMerge::kLse;
  measured.attn.cache_dtype = DType::kBF16;
  measured.attn.should_compress_indices = false;
  measured.step_caching.threshold = 1e-9;
  measured.step_caching.reuse = StepReuse::kExtrapolate;
  for (const SparsityConfig& config : {SparsityConfig::Dense(), EveryKindOfStep(), measured}) {
    SCOPED_TRACE(config.IsAnythingEnabled() ? Name(config.step_caching.reuse) : "dense");
    for (const int threads : {1, 2}) {
      Context context(threads);
      SparseSession session(context, config, {geometry});
      for (int64_t step = 0; step < kStepsOfEveryKind; ++step) {
        session.BeginStep(step);
        Inputs moved = inputs;  // by more than the threshold
        moved.timestep += 0.01f * static_cast<float>(step);
        model.Forward(context, moved, session.invocation(0), prediction);
      }
      size_t state_bytes = 0;
      const size_t planned = PlannedWorkspace({}, threads, [&](Context& planning) {
        SparseSession planned_session(planning, config, {geometry});
        RunDry(planning, model, planned_session, inputs, prediction_shape);
        state_bytes = planned_session.allocated_bytes();
      });
      ExpectPlanned(planned, context, context.workspace().peak_bytes());
      EXPECT_EQ(state_bytes, session.allocated_bytes());
    }
  }
}

}  // namespace tamias
