// One attention layer and one MLP of a denoising loop of your own, computed as deltas: full steps
// keep what was computed, sparse steps recompute the columns that matter.
//
//   delta_layer [TOP_KEYS]          delta_layer 0.1
//
// The inputs move a little from step to step, as a model's do. Each line says how far the output
// lies from dense computation, and which share of the work was left out.
#include <tamias/context.h>
#include <tamias/error.h>
#include <tamias/ops/attention.h>
#include <tamias/ops/copy.h>
#include <tamias/ops/distance.h>
#include <tamias/sparsity/config.h>
#include <tamias/sparsity/delta_attention.h>
#include <tamias/sparsity/delta_mlp.h>
#include <tamias/sparsity/schedule.h>
#include <tamias/sparsity/selection.h>
#include <tamias/sparsity/state_builder.h>
#include <tamias/sparsity/token_order.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace {

using namespace tamias;  // NOLINT: an example

constexpr int64_t kSteps = 12;

Tensor RandomNormal(const Shape& shape, uint32_t seed, float deviation = 1) {
  Tensor tensor(shape, DType::kF32);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  for (int64_t i = 0; i < tensor.NumElements(); ++i) tensor.data<float>()[i] = normal(random);
  return tensor;
}

// A path that a tensor takes through the steps: cos(t) begin + sin(t) end.
class Path {
 public:
  Path(const Shape& shape, uint32_t seed, float deviation = 1)
      : begin_(RandomNormal(shape, seed, deviation)),
        end_(RandomNormal(shape, seed + 1, deviation)),
        now_(shape, DType::kF32) {}
  ConstTensorView At(int64_t step) {
    const float angle = 0.02f * static_cast<float>(step);
    for (int64_t i = 0; i < now_.NumElements(); ++i) {
      now_.data<float>()[i] =
          std::cos(angle) * begin_.data<float>()[i] + std::sin(angle) * end_.data<float>()[i];
    }
    return now_;
  }

 private:
  Tensor begin_, end_, now_;
};

double RelativeError(Context& context, const Tensor& found, const Tensor& expected) {
  const Distance distance = MeasureDistance(context, found, expected);
  return std::sqrt(distance.squared / distance.squared_reference);
}

void Run(double top_keys) {
  // A picture of 48 x 48 tokens beside 32 of text, four heads of 64, an MLP of 1,024 neurons.
  SparseGeometry geometry;
  geometry.text_tokens = 32;
  geometry.grid = {.time = 1, .height = 48, .width = 48};
  geometry.num_heads = 4;
  geometry.head_dim = 64;
  geometry.model_dim = 256;
  geometry.mlp_dim = 1024;
  const int64_t tokens = geometry.joint_tokens();

  SparsityConfig config;  // the published defaults; LoadSparsityConfig reads a file
  config.attn.top_keys = top_keys;
  config.attn.full_step_every = 6;
  config.mlp.full_step_every = 6;
  const StepSchedule schedule(config);

  Context context;
  const TokenOrder order = MakeTokenOrder(config.patchify, geometry.grid);
  const std::unique_ptr<ColumnSelector> selector =
      MakeColumnSelector(config.attn, config.patchify, geometry, order);
  StateBuilder state(context);
  DeltaAttention attention(config.attn, config.should_profile, geometry, *selector, /*seed=*/1,
                           state);
  DeltaMlp mlp(config.mlp, config.should_profile, geometry, tokens, /*seed=*/2, state);
  for (const auto& [name, bytes] : state.entries()) {
    std::printf("%-24s %8.1f KiB\n", name.c_str(), static_cast<double>(bytes) / 1024);
  }

  // A loop of your own brings its tensors in this order: text, then image tokens as order.Apply
  // lays them. Scores have a deviation of 4: a few columns draw most of a row's attention.
  const Shape heads = {1, geometry.num_heads, tokens, geometry.head_dim};
  Path query(heads, 10, 2), key(heads, 20, 2), value(heads, 30);
  Path mlp_input({1, tokens, geometry.model_dim}, 40);
  const Tensor fc1 = RandomNormal({geometry.mlp_dim, geometry.model_dim}, 50, 0.06f);
  const Tensor fc2 = RandomNormal({geometry.model_dim, geometry.mlp_dim}, 51, 0.03f);
  Tensor fc2_transposed({geometry.mlp_dim, geometry.model_dim}, DType::kF32);
  Copy(context, fc2.view().Permute({1, 0}), fc2_transposed);
  const MlpWeights weights = {.fc1_weight = fc1,
                              .fc1_bias = {},
                              .fc2_weight = fc2,
                              .fc2_weight_transposed = fc2_transposed,
                              .fc2_bias = {}};

  Tensor attended(heads, DType::kF32), dense_attended(heads, DType::kF32);
  Tensor moved(mlp_input.At(0).shape(), DType::kF32), dense_moved(moved.shape(), DType::kF32);
  std::printf("\n%4s  %-6s  %28s  %28s\n", "step", "kind", "attention: error, left out",
              "MLP: error, left out");
  for (int64_t step = 0; step < kSteps; ++step) {
    const StepPlan plan = schedule.At(step);
    const AttentionInputs inputs = {.query = query.At(step),
                                    .key = key.At(step),
                                    .value = value.At(step),
                                    .scale = 1 / std::sqrt(static_cast<float>(geometry.head_dim))};
    const ConstTensorView input = mlp_input.At(step);
    LayerReport report;
    attention.Run(context, plan.attention_is_full, inputs, attended, report);
    mlp.Run(context, step, plan.mlp_is_full, weights, input, moved, report);
    DenseAttention(context, inputs, dense_attended);
    DenseMlp(context, weights, input, dense_moved);
    std::printf("%4lld  %-6s  %18.4f, %6.1f %%  %18.4f, %6.1f %%\n", static_cast<long long>(step),
                std::string(Name(plan.kind)).c_str(),
                RelativeError(context, attended, dense_attended), 100 * report.attention.Sparsity(),
                RelativeError(context, moved, dense_moved), 100 * report.mlp.Sparsity());
  }
}

}  // namespace

int main(int argc, char** argv) {
  const double top_keys = argc > 1 ? std::atof(argv[1]) : 0.1;
  if (argc > 2 || !(top_keys > 0 && top_keys <= 1)) {
    std::fprintf(stderr, "usage: delta_layer [TOP_KEYS]   (above 0, at most 1)\n");
    return 2;
  }
  try {
    Run(top_keys);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "delta_layer: %s\n", error.what());
    return 1;
  }
}
