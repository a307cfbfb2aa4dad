// `tamias bench mlp`: the dense MLP (oneDNN) and the column-sparse MLP with its cache updates.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "bench.h"
#include "fail.h"
#include "tamias/ops/column_sparse_mlp.h"
#include "tamias/ops/linear.h"
#include "tamias/random.h"

namespace tamias::cli {
namespace {

constexpr int64_t kGroupSize = 128;
constexpr double kDefaultSparsities[] = {0.7, 0.9};

struct MlpShape {
  int64_t tokens = 0;
  int64_t model_dim = 0;
  int64_t mlp_dim = 0;

  double DenseFlops() const {
    return 4.0 * static_cast<double>(tokens) * static_cast<double>(model_dim) *
           static_cast<double>(mlp_dim);
  }
  std::string ToString() const {
    return fmt::format("M {}, d {}, F {}", tokens, model_dim, mlp_dim);
  }
};

MlpShape MakeShape(const BenchOptions& options) {
  static const std::map<std::string, MlpShape> named = {
      {"demo-512", {4132, 256, 1024}},
      {"flux-1280x768", {4352, 3072, 12288}},
      {"flux-2304x1280", {12032, 3072, 12288}},
      {"hunyuan-720p", {4096, 3072, 12288}},
  };
  if (options.tokens) {
    const int64_t tokens = *options.tokens;
    // A model_dim out of range is refused below, before four times it could overflow.
    const int64_t mlp_dim =
        options.mlp_dim.value_or(4 * std::clamp<int64_t>(options.model_dim, 0, 1 << 16));
    if (tokens < 1 || tokens > (1 << 20) || options.model_dim < 8 ||
        options.model_dim > (1 << 15) || mlp_dim < 8 || mlp_dim > (1 << 17)) {
      Fail(ErrorCode::kInvalidArgument,
           "bench mlp: expected tokens 1 to 1048576, model-dim 8 to 32768 and mlp-dim 8 to 131072, "
           "found {}, {} and {}",
           tokens, options.model_dim, mlp_dim);
    }
    return {tokens, options.model_dim, mlp_dim};
  }
  return FindShape(options, named);
}

// Every group takes the same number of neurons, spread evenly from a start of its own.
struct SpreadNeurons {
  Tensor indices;
  Tensor counts;
  double kept = 0;

  SpreadNeurons(const MlpShape& shape, double sparsity) {
    const int64_t groups = (shape.tokens + kGroupSize - 1) / kGroupSize;
    const auto keep =
        static_cast<int64_t>(std::lround((1 - sparsity) * static_cast<double>(shape.mlp_dim)));
    indices = Tensor({1, groups, keep}, DType::kI32);
    counts = Tensor({1, groups}, DType::kI32);
    kept = static_cast<double>(keep) / static_cast<double>(shape.mlp_dim);
    for (int64_t group = 0; group < groups; ++group) {
      counts.data<int32_t>()[group] = static_cast<int32_t>(keep);
      for (int64_t i = 0; i < keep; ++i) {
        const int64_t stride_start = i * shape.mlp_dim / keep;
        const int64_t stride_end = (i + 1) * shape.mlp_dim / keep;
        indices.data<int32_t>()[group * keep + i] = static_cast<int32_t>(
            stride_start + CounterRandom(static_cast<uint64_t>(group), static_cast<uint64_t>(i)) %
                               (stride_end - stride_start));
      }
    }
  }
};

}  // namespace

std::vector<Measurement> BenchMlp(const BenchOptions& options, double peak_gflops) {
  const MlpShape shape = MakeShape(options);
  const std::vector<double> sparsities = SparsitiesOf(options, kDefaultSparsities);

  Context context(options.threads);
  const int64_t groups = (shape.tokens + kGroupSize - 1) / kGroupSize;
  const float scale = 1 / std::sqrt(static_cast<float>(shape.model_dim));
  const Tensor input = RandomTensor({1, shape.tokens, shape.model_dim}, 1);
  const Tensor fc1 = RandomTensor({shape.mlp_dim, shape.model_dim}, 2, scale);
  const Tensor fc2_transposed = RandomTensor({shape.mlp_dim, shape.model_dim}, 3, scale);
  const Tensor fc2 = Tensor::CopyOf(static_cast<ConstTensorView>(fc2_transposed).Permute({1, 0}));
  const Tensor bias = Tensor::Zeros({shape.mlp_dim}, DType::kF32);
  const MlpWeights weights{.fc1_weight = fc1,
                           .fc1_bias = bias,
                           .fc2_weight = fc2,
                           .fc2_weight_transposed = fc2_transposed,
                           .fc2_bias = {},
                           .activation = Activation::kGeluTanh};
  Tensor hidden({1, shape.tokens, shape.mlp_dim}, DType::kF32);
  Tensor output = Tensor::Zeros({1, shape.tokens, shape.model_dim}, DType::kF32);
  Tensor cache = Tensor::Zeros({1, groups, shape.mlp_dim, kGroupSize}, DType::kF32);

  std::vector<SpreadNeurons> selections;
  for (const double sparsity : sparsities) selections.emplace_back(shape, sparsity);
  std::vector<std::function<void()>> candidates = {[&] {
    Linear(context, input, fc1, bias, hidden, {.activation = Activation::kGeluTanh});
    Linear(context, hidden.view(), fc2, {}, output);
  }};
  for (const SpreadNeurons& neurons : selections) {
    candidates.emplace_back([&] {
      ColumnSparseMlp(context, input, weights, {neurons.indices, neurons.counts, kGroupSize}, cache,
                      output);
    });
  }
  const std::vector<double> seconds = MedianSeconds(options.repeats, candidates);

  std::vector<Measurement> measurements;
  for (size_t i = 0; i < seconds.size(); ++i) {
    const double kept = i == 0 ? 1 : selections[i - 1].kept;
    const double gflops = shape.DenseFlops() * kept / seconds[i] * 1e-9;
    const double speedup = seconds[0] / seconds[i];
    measurements.push_back(
        {i == 0 ? "dense MLP (oneDNN)"
                : fmt::format("column-sparse MLP, {:.1f} %", 100 * sparsities[i - 1]),
         shape.ToString(), seconds[i], gflops, gflops / peak_gflops, speedup, speedup * kept});
  }
  return measurements;
}

}  // namespace tamias::cli
