// `tamias bench attention`: dense, dense with column sums, and column-sparse attention.
#include <fmt/format.h>

#include <cmath>
#include <map>

#include "bench.h"
#include "fail.h"
#include "tamias/ops/attention.h"
#include "tamias/ops/column_sparse_attention.h"
#include "tamias/random.h"

namespace tamias::cli {
namespace {

constexpr int64_t kGroupSize = 192;
constexpr double kDefaultSparsities[] = {0.835, 0.93, 0.95};  // FLUX, HunyuanVideo, beyond

struct AttentionShape {
  int64_t heads = 1;
  int64_t queries = 0;
  int64_t keys = 0;
  int64_t head_dim = 128;
  std::string note;

  double DenseFlops() const {
    return 4.0 * static_cast<double>(heads) * static_cast<double>(queries) *
           static_cast<double>(keys) * static_cast<double>(head_dim);
  }
  std::string ToString() const {
    const std::string length =
        queries == keys ? fmt::format("N {}", keys) : fmt::format("Nq {}, N {}", queries, keys);
    return fmt::format("H {}, {}, D {}{}", heads, length, head_dim, note);
  }
};

AttentionShape MakeShape(const BenchOptions& options) {
  static const std::map<std::string, AttentionShape> named = {
      {"demo-512", {4, 4132, 4132, 64, ""}},
      {"flux-1280x768", {2, 4352, 4352, 128, " (2 of 24 heads)"}},
      {"flux-2304x1280", {1, 12032, 12032, 128, " (1 of 24 heads)"}},
      {"hunyuan-720p", {1, 4 * kGroupSize, 119056, 128, " (4 of 621 groups)"}},
  };
  if (options.tokens) {
    const int64_t tokens = *options.tokens;
    if (tokens < 1 || tokens > (1 << 20) || options.heads < 1 || options.heads > 1024 ||
        options.head_dim < 8 || options.head_dim > 1024 || options.head_dim % 8 != 0) {
      Fail(ErrorCode::kInvalidArgument,
           "bench attention: expected tokens 1 to 1048576, heads 1 to 1024 and head-dim a multiple "
           "of 8 up to 1024, found {}, {} and {}",
           tokens, options.heads, options.head_dim);
    }
    return {options.heads, tokens, tokens, options.head_dim, ""};
  }
  return FindShape(options, named);
}

// The same share of columns for every group, drawn at random.
struct RandomColumns {
  Tensor indices;
  Tensor counts;
  double kept = 0;  // share of columns

  RandomColumns(const AttentionShape& shape, double sparsity) {
    const int64_t groups = (shape.queries + kGroupSize - 1) / kGroupSize;
    const auto keep =
        static_cast<int64_t>(std::lround((1 - sparsity) * static_cast<double>(shape.keys)));
    indices = Tensor({1, shape.heads, groups, keep}, DType::kI32);
    counts = Tensor({1, shape.heads, groups}, DType::kI32);
    kept = static_cast<double>(keep) / static_cast<double>(shape.keys);
    for (int64_t row = 0; row < shape.heads * groups; ++row) {
      counts.data<int32_t>()[row] = static_cast<int32_t>(keep);
      FillRow(static_cast<uint64_t>(row), shape.keys, keep, indices.data<int32_t>() + row * keep);
    }
  }

  // Selection sampling (Knuth, algorithm S): ascending, without repetition.
  static void FillRow(uint64_t seed, int64_t keys, int64_t keep, int32_t* out) {
    int64_t left = keep;
    for (int64_t key = 0; key < keys && left > 0; ++key) {
      const double draw = CounterRandom(seed, static_cast<uint64_t>(key)) * 0x1p-32;
      if (draw * static_cast<double>(keys - key) < static_cast<double>(left)) {
        *out++ = static_cast<int32_t>(key);
        --left;
      }
    }
  }
};

}  // namespace

std::vector<Measurement> BenchAttention(const BenchOptions& options, double peak_gflops) {
  const AttentionShape shape = MakeShape(options);
  const std::vector<double> sparsities = SparsitiesOf(options, kDefaultSparsities);

  Context context(options.threads);
  const int64_t groups = (shape.queries + kGroupSize - 1) / kGroupSize;
  const Tensor query = RandomTensor({1, shape.heads, shape.queries, shape.head_dim}, 1);
  const Tensor key = RandomTensor({1, shape.heads, shape.keys, shape.head_dim}, 2);
  const Tensor value = RandomTensor({1, shape.heads, shape.keys, shape.head_dim}, 3);
  const AttentionInputs inputs{query, key, value,
                               1 / std::sqrt(static_cast<float>(shape.head_dim))};
  Tensor output(query.shape(), DType::kF32);
  Tensor lse({1, shape.heads, shape.queries}, DType::kF32);
  Tensor column_sums({1, shape.heads, groups, shape.keys}, DType::kF32);
  DenseAttention(context, inputs, output, lse);

  std::vector<RandomColumns> selections;
  for (const double sparsity : sparsities) selections.emplace_back(shape, sparsity);
  std::vector<std::function<void()>> candidates = {
      [&] { DenseAttention(context, inputs, output, lse); },
      [&] {
        DenseAttentionColumnSums(context, inputs, lse.view(), kGroupSize, output, lse, column_sums);
      },
  };
  for (const RandomColumns& columns : selections) {
    candidates.emplace_back([&] {
      ColumnSparseAttention(context, inputs, {columns.indices, columns.counts, kGroupSize}, {},
                            output);
    });
  }
  const std::vector<double> seconds = MedianSeconds(options.repeats, candidates);

  std::vector<Measurement> measurements;
  const auto add = [&](std::string name, double time, double kept) {
    const double gflops = shape.DenseFlops() * kept / time * 1e-9;
    const double speedup = seconds[0] / time;
    measurements.push_back({std::move(name), shape.ToString(), time, gflops, gflops / peak_gflops,
                            speedup, speedup * kept});
  };
  add("dense attention", seconds[0], 1);
  add("dense attention, column sums", seconds[1], 1);
  for (size_t i = 0; i < selections.size(); ++i) {
    add(fmt::format("column-sparse attention, {:.1f} %", 100 * sparsities[i]), seconds[i + 2],
        selections[i].kept);
  }
  return measurements;
}

}  // namespace tamias::cli
