// Sparse steps of DeltaAttention and DeltaMlp with all their bookkeeping (block means, selection,
// unpacking of masks, copies), against our own dense operation on the same shapes in the same run.
// Counters: speedup_over_dense; arithmetic_fraction, the speed-up as a share of what the skipped
// work allows; bookkeeping, the share of the step that is not the sparse operation itself;
// full_over_dense, the cost of a full step that renews the selection.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>

#include "ops/attention.h"
#include "tamias/random.h"
#include "tamias/sparsity/delta_attention.h"
#include "tamias/sparsity/delta_mlp.h"

namespace tamias {
namespace {

struct Model {
  const char* name;
  SparseGeometry geometry;
};

// One layer of the demo model at a picture of `pixels` a side.
Model DemoModel(const char* name, int64_t pixels) {
  SparseGeometry g;
  g.text_tokens = 36;
  g.grid = {1, pixels / 8, pixels / 8};
  g.num_heads = 4;
  g.head_dim = 64;
  g.model_dim = 256;
  g.mlp_dim = 1024;
  return {name, g};
}

// One layer of FLUX.1-dev at 1280x768.
Model FluxModel() {
  SparseGeometry g;
  g.text_tokens = 512;
  g.grid = {1, 48, 80};
  g.num_heads = 24;
  g.head_dim = 128;
  g.model_dim = 3072;
  g.mlp_dim = 12288;
  return {"flux-1280x768", g};
}

Tensor RandomTensor(Shape shape, uint64_t seed, float scale) {
  Tensor tensor(shape, DType::kF32);
  for (int64_t i = 0; i < tensor.NumElements(); ++i) {
    const uint32_t bits = CounterRandom(seed, static_cast<uint64_t>(i));
    tensor.data<float>()[i] = scale * (static_cast<float>(bits) * 0x1p-31f - 1);
  }
  return tensor;
}

SparsityConfig Config(double top_keys) {
  SparsityConfig config;
  config.attn.top_keys = top_keys;
  config.attn.counts_multiple_of = 1;
  config.mlp.top_keys = top_keys;
  config.mlp.random_keys = 0;
  config.mlp.counts_multiple_of = 1;
  return config;
}

// The shortest of some runs: other work on the machine can only add.
template <typename Body>
double Seconds(const Body& body) {
  double best = INFINITY;
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    best = std::min(best, elapsed.count());
  }
  return best;
}

void Report(benchmark::State& state, double dense, double full, double sparse,
            const WorkCount& work, double bookkeeping, double operation) {
  state.counters["speedup_over_dense"] = dense / sparse;
  state.counters["arithmetic_fraction"] = dense / sparse * work.done / work.dense;
  state.counters["bookkeeping"] = bookkeeping / (bookkeeping + operation);
  state.counters["full_over_dense"] = full / dense;
}

void AttentionStep(benchmark::State& state, const Model& model, double top_keys,
                   AttentionMerge merge, ColumnSums sums = ColumnSums::kExact) {
  const SparseGeometry& g = model.geometry;
  SparsityConfig config = Config(top_keys);
  config.attn.merge = merge;
  config.attn.column_sums = sums;
  const Shape shape = {g.batch, g.num_heads, g.joint_tokens(), g.head_dim};
  const Tensor query = RandomTensor(shape, 1, 2);
  const Tensor key = RandomTensor(shape, 2, 2);
  const Tensor value = RandomTensor(shape, 3, 1);
  const float scale = 1 / std::sqrt(static_cast<float>(g.head_dim));
  const AttentionInputs inputs = {query.view(), key.view(), value.view(), scale};
  Tensor output(shape, DType::kF32);
  Context context;
  StateBuilder builder(context);
  const auto selector =
      MakeColumnSelector(config.attn, config.patchify, g, MakeTokenOrder(config.patchify, g.grid));
  DeltaAttention attention(config.attn, config.should_profile, g, *selector, 1, builder);
  LayerReport report;
  const double dense = Seconds([&] { DenseAttention(context, inputs, output); });
  const double full =
      Seconds([&] { attention.Run(context, true, inputs, output, report = LayerReport()); });
  const double sparse =
      Seconds([&] { attention.Run(context, false, inputs, output, report = LayerReport()); });
  LayerReport total;
  for (auto _ : state) attention.Run(context, false, inputs, output, total);
  Report(state, dense, full, sparse, report.attention, total.seconds.attention_selection,
         total.seconds.attention);
}

void MlpStep(benchmark::State& state, const Model& model, double top_keys) {
  const SparseGeometry& g = model.geometry;
  const SparsityConfig config = Config(top_keys);
  const Tensor fc1 = RandomTensor({g.mlp_dim, g.model_dim}, 1, 0.05f);
  const Tensor fc2 = RandomTensor({g.model_dim, g.mlp_dim}, 2, 0.05f);
  const Tensor transposed = RandomTensor({g.mlp_dim, g.model_dim}, 3, 0.05f);
  const MlpWeights weights = {.fc1_weight = fc1.view(),
                              .fc1_bias = {},
                              .fc2_weight = fc2.view(),
                              .fc2_weight_transposed = transposed.view(),
                              .fc2_bias = {}};
  const Tensor input = RandomTensor({g.batch, g.image_tokens(), g.model_dim}, 4, 1);
  Tensor output(input.shape(), DType::kF32);
  Context context;
  StateBuilder builder(context);
  DeltaMlp mlp(config.mlp, config.should_profile, g, g.image_tokens(), 1, builder);
  LayerReport report;
  int64_t step = 0;
  const auto run = [&](bool is_full, LayerReport& into) {
    mlp.Run(context, step++, is_full, weights, input, output, into);
  };
  const double dense = Seconds([&] { DenseMlp(context, weights, input, output); });
  const double full = Seconds([&] { run(true, report = LayerReport()); });
  const double sparse = Seconds([&] { run(false, report = LayerReport()); });
  LayerReport total;
  for (auto _ : state) run(false, total);
  Report(state, dense, full, sparse, report.mlp, total.seconds.mlp_selection, total.seconds.mlp);
}

void RegisterModel(const Model& model) {
  const auto name = [&](const char* what, const char* detail) {
    return std::string(what) + "/" + model.name + "/" + detail;
  };
  const auto add = [](const std::string& title, auto function) {
    benchmark::RegisterBenchmark(title.c_str(), function)
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
  };
  add(name("DeltaAttention", "16.5%/additive"), [model](benchmark::State& state) {
    AttentionStep(state, model, 0.165, AttentionMerge::kAdditive);
  });
  add(name("DeltaAttention", "16.5%/lse"), [model](benchmark::State& state) {
    AttentionStep(state, model, 0.165, AttentionMerge::kLse);
  });
  add(name("DeltaAttention", "7%/lse"), [model](benchmark::State& state) {
    AttentionStep(state, model, 0.07, AttentionMerge::kLse);
  });
  add(name("DeltaAttention", "10%/lse"),
      [model](benchmark::State& state) { AttentionStep(state, model, 0.1, AttentionMerge::kLse); });
  add(name("DeltaAttention", "10%/pooled, selection kept"), [model](benchmark::State& state) {
    AttentionStep(state, model, 0.1, AttentionMerge::kPooled);
  });
  add(name("DeltaAttention", "10%/pooled, selection renewed"), [model](benchmark::State& state) {
    AttentionStep(state, model, 0.1, AttentionMerge::kPooled, ColumnSums::kPooled);
  });
  add(name("DeltaMlp", "30%"), [model](benchmark::State& state) { MlpStep(state, model, 0.3); });
}

[[maybe_unused]] const bool kRegistered = [] {
  RegisterModel(DemoModel("demo-512", 512));
  RegisterModel(DemoModel("demo-1024", 1024));
  RegisterModel(FluxModel());
  return true;
}();

}  // namespace
}  // namespace tamias
