#include "ops/column_sparse_mlp.h"

#include <gmock/gmock.h>

#include <numeric>

#include "tests/support/bfloat16.h"
#include "tests/support/compare_tensors.h"
#include "tests/support/errors.h"
#include "tests/support/float8_matrix.h"
#include "tests/support/random_tensors.h"
#include "tests/support/simd_targets.h"

namespace tamias {
namespace {

struct Case {
  int64_t batch, tokens, model_dim, neurons, group_size, groups, capacity;
  Tensor input, fc1, fc1_bias, fc2_transposed, indices, counts, cache, output;
  MlpWeights weights;
  NeuronSelection selection;
};

constexpr DType kWeightTypes[] = {DType::kF32, DType::kF16, DType::kBF16};
constexpr Activation kActivations[] = {
    Activation::kNone, Activation::kRelu,      Activation::kGeluTanh, Activation::kGeluErf,
    Activation::kSilu, Activation::kQuickGelu, Activation::kTanh};

void MakeSelection(Random& random, Case& c) {
  c.capacity = random.Integer(0, c.neurons);
  c.indices = Tensor({c.batch, c.groups, c.capacity}, DType::kI32);
  c.counts = Tensor({c.batch, c.groups}, DType::kI32);
  for (int64_t group = 0; group < c.batch * c.groups; ++group) {
    std::vector<int32_t> order(static_cast<size_t>(c.neurons));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random.generator());
    const int64_t count = random.Coin() ? random.Integer(0, c.capacity) : c.capacity;
    std::sort(order.begin(), order.begin() + count);
    std::copy_n(order.begin(), count, c.indices.data<int32_t>() + group * c.capacity);
    std::fill_n(c.indices.data<int32_t>() + group * c.capacity + count, c.capacity - count, -1);
    c.counts.data<int32_t>()[group] = static_cast<int32_t>(count);
  }
  c.selection = {
      .indices = c.indices.view(), .counts = c.counts.view(), .group_size = c.group_size};
}

Case RandomCase(Random& random) {
  Case c;
  c.batch = random.Integer(1, 2);
  c.tokens = random.Integer(1, 300);
  c.model_dim = random.Coin() ? 8 * random.Integer(1, 20) : random.Integer(1, 100);
  c.neurons = random.Integer(1, 350);
  const int64_t group_sizes[] = {128, 256, random.Integer(1, 200)};
  c.group_size = group_sizes[random.Integer(0, 2)];
  c.groups = (c.tokens + c.group_size - 1) / c.group_size;
  c.weights.gated = random.Coin();
  c.weights.gate_first = random.Coin();
  c.weights.activation = kActivations[random.Integer(0, 5)];
  const int64_t rows = c.weights.gated ? 2 * c.neurons : c.neurons;
  const DType dtype = kWeightTypes[random.Integer(0, 2)];
  const float scale = 1 / std::sqrt(static_cast<float>(c.model_dim));
  c.input = random.Normal({c.batch, c.tokens, c.model_dim + 3});
  c.fc1 = random.Normal({rows, c.model_dim + 2}, scale, dtype);
  c.fc1_bias = random.Normal({rows}, 0.1f, kWeightTypes[random.Integer(0, 2)]);
  c.fc2_transposed =
      random.Normal({c.neurons, c.model_dim}, 1 / std::sqrt(static_cast<float>(c.neurons)));
  c.weights.fc1_weight = c.fc1.view().Slice(1, 1, 1 + c.model_dim);
  if (random.Coin()) c.weights.fc1_bias = c.fc1_bias.view();
  c.weights.fc2_weight_transposed = c.fc2_transposed.view();
  MakeSelection(random, c);
  c.cache = random.Normal({c.batch, c.groups, c.neurons, c.group_size});
  c.output = random.Normal({c.batch, c.tokens, c.model_dim + 1});
  return c;
}

ConstTensorView InputOf(const Case& c) { return c.input.view().Slice(2, 2, 2 + c.model_dim); }
TensorView OutputOf(const Case& c, Tensor& output) {
  return output.view().Slice(2, 0, c.model_dim);
}

// Lanes past the last token hold no meaning: they are made equal before a comparison.
void ClearUnusedLanes(const Case& c, Tensor& values) {
  const int64_t used = c.tokens - (c.groups - 1) * c.group_size;
  const int64_t rows = values.dim(2);
  for (int64_t b = 0; b < c.batch; ++b) {
    float* group = values.data<float>() + (b * c.groups + c.groups - 1) * rows * c.group_size;
    for (int64_t r = 0; r < rows; ++r) {
      std::fill(group + r * c.group_size + used, group + (r + 1) * c.group_size, 0.0f);
    }
  }
}

TEST(ColumnSparseMlp, InFloat8ItIsThatOfRoundedFactors) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Context context(static_cast<int>(random.Integer(1, 3)));
    Case c = RandomCase(random);
    const Tensor input = RoundedToFloat8(InputOf(c));
    const Tensor fc1 = RoundedToFloat8(c.weights.fc1_weight);
    MlpWeights rounded = c.weights, in_float8 = c.weights;
    rounded.fc1_weight = fc1.view();
    in_float8.is_fp8 = true;
    Tensor expected_cache = Tensor::CopyOf(c.cache.view()), cache = Tensor::CopyOf(c.cache.view());
    Tensor expected = Tensor::CopyOf(c.output.view()), output = Tensor::CopyOf(c.output.view());
    ColumnSparseMlp(context, input.view().Reshape(InputOf(c).shape()), rounded, c.selection,
                    expected_cache, OutputOf(c, expected));
    ColumnSparseMlp(context, InputOf(c), in_float8, c.selection, cache, OutputOf(c, output));
    for (Tensor* tensor : {&cache, &expected_cache}) ClearUnusedLanes(c, *tensor);
    EXPECT_TRUE(SameBytes(cache, expected_cache));
    EXPECT_TRUE(SameBytes(output, expected));

    Tensor delta({c.batch, c.groups, c.capacity, c.group_size}, DType::kF32);
    Tensor again = Tensor::CopyOf(c.cache.view());
    ColumnSparseMlpUp(context, InputOf(c), in_float8, c.selection, again, delta);
    ClearUnusedLanes(c, again);
    EXPECT_TRUE(SameBytes(again, cache));
  }
}

TEST(ColumnSparseMlp, FusedMatchesReferenceOverRandomShapes) {
  ForEachSimdTarget([] {
    for (uint64_t seed = 0; seed < 30; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed);
      Context context(static_cast<int>(random.Integer(1, 3)));
      Case c = RandomCase(random);
      Tensor cache = Tensor::CopyOf(c.cache.view()), output = Tensor::CopyOf(c.output.view());
      ColumnSparseMlp(context, InputOf(c), c.weights, c.selection, cache, OutputOf(c, output));
      reference::ColumnSparseMlp(context, InputOf(c), c.weights, c.selection, c.cache,
                                 OutputOf(c, c.output));
      ClearUnusedLanes(c, cache);
      ClearUnusedLanes(c, c.cache);
      // sums of up to 350 products of order 1, in fp32
      EXPECT_LT(LargestError(cache.view(), c.cache.view()), 1e-5f);
      EXPECT_LT(LargestError(output.view(), c.output.view()), 2e-5f);
    }
  });
}

// The case with values that bf16 holds, and its operands in bf16.
struct BFloat16Case {
  explicit BFloat16Case(Random& random) : c(RandomCase(random)) {
    // Any width; of pairs, where rows are even, too; of whole tiles.
    constexpr int64_t kWidths[] = {1, 2, 32};
    const int64_t width = kWidths[random.Integer(0, 2)];
    c.model_dim = (c.model_dim + width - 1) / width * width;
    Tensor* const tensors[] = {&c.input, &c.fc2_transposed, &c.cache};
    const int64_t rows = c.weights.gated ? 2 * c.neurons : c.neurons;
    const float scale = 1 / std::sqrt(static_cast<float>(c.model_dim));
    c.input = random.Normal({c.batch, c.tokens, c.model_dim + (random.Coin() ? 4 : 3)});
    c.fc1 = random.Normal({rows, c.model_dim + 2}, scale, DType::kBF16);
    c.weights.fc1_weight = c.fc1.view().Slice(1, 1, 1 + c.model_dim);
    c.fc2_transposed =
        random.Normal({c.neurons, c.model_dim}, 1 / std::sqrt(static_cast<float>(c.neurons)));
    c.output = random.Normal({c.batch, c.tokens, c.model_dim + 1});
    for (Tensor* tensor : tensors) RoundToBFloat16(*tensor);
    c.weights.fc2_weight_transposed = c.fc2_transposed.view();
    input = InBFloat16(c.input);
    fc2_transposed = InBFloat16(c.fc2_transposed);
    cache = InBFloat16(c.cache);
    weights = c.weights;
    weights.fc2_weight_transposed = fc2_transposed.view();
  }
  ConstTensorView Input() const { return input.view().Slice(2, 2, 2 + c.model_dim); }

  Case c;
  Tensor input, fc2_transposed, cache;
  MlpWeights weights;
};

// The cache's rounding; deltas of up to 350 neurons between rounded activations, rounded once more.
constexpr float kCacheError = 0x1.1p-8f;
constexpr float kOutputError = 2e-2f;

TEST(ColumnSparseMlp, OfBFloat16MatchesReferenceOverRandomShapes) {
  ForEachSimdTarget([] {
    for (uint64_t seed = 200; seed < 230; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed);
      Context context(BFloat16OnCpu(), static_cast<int>(random.Integer(1, 3)));
      BFloat16Case narrow(random);
      Case& c = narrow.c;
      Tensor output = Tensor::CopyOf(c.output.view()), cache = Tensor::CopyOf(narrow.cache.view());
      ColumnSparseMlp(context, narrow.Input(), narrow.weights, c.selection, cache,
                      OutputOf(c, output));
      reference::ColumnSparseMlp(context, InputOf(c), c.weights, c.selection, c.cache,
                                 OutputOf(c, c.output));
      Tensor found = ToFloat32(cache);
      ClearUnusedLanes(c, found);
      ClearUnusedLanes(c, c.cache);
      EXPECT_LT(LargestError(found.view(), c.cache.view()), kCacheError);
      EXPECT_LT(LargestError(output.view(), c.output.view()), kOutputError);
    }
  });
}

TEST(ColumnSparseMlp, EachProductOfBFloat16MatchesReference) {
  ForEachSimdTarget([] {
    for (uint64_t seed = 300; seed < 312; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed);
      Context context(BFloat16OnCpu(), static_cast<int>(random.Integer(1, 3)));
      BFloat16Case narrow(random);
      Case& c = narrow.c;
      const Shape delta_shape{c.batch, c.groups, c.capacity, c.group_size};
      Tensor delta = Tensor::Zeros(delta_shape, DType::kBF16);
      Tensor expected = Tensor::Zeros(delta_shape, DType::kF32);
      Tensor cache = Tensor::CopyOf(narrow.cache.view());
      RoundToBFloat16(c.output);
      Tensor output = InBFloat16(c.output);
      ColumnSparseMlpUp(context, narrow.Input(), narrow.weights, c.selection, cache, delta);
      reference::ColumnSparseMlpUp(context, InputOf(c), c.weights, c.selection, c.cache, expected);
      Tensor found = ToFloat32(delta);
      ClearUnusedLanes(c, found);
      ClearUnusedLanes(c, expected);
      EXPECT_LT(LargestError(found.view(), expected.view()), 2 * kCacheError);
      RoundToBFloat16(expected);
      ColumnSparseMlpDown(context, InBFloat16(expected).view(), narrow.weights, c.selection,
                          OutputOf(c, output));
      reference::ColumnSparseMlpDown(context, expected.view(), c.weights, c.selection,
                                     OutputOf(c, c.output));
      EXPECT_LT(LargestError(ToFloat32(output).view(), c.output.view()), kCacheError);
    }
  });
}

TEST(ColumnSparseMlp, StoresActivationsInBFloat16) {
  Random random(6);
  Context context(BFloat16OnCpu(), 2);
  Tensor activations = random.Normal({2, 75, 37});
  RoundToBFloat16(activations);
  Tensor expected({2, 3, 37, 30}, DType::kF32), found(expected.shape(), DType::kBF16);
  reference::StoreActivations(context, activations, expected);
  StoreActivations(context, InBFloat16(activations), found);
  EXPECT_TRUE(SameBytes(found, InBFloat16(expected)));
}

TEST(ColumnSparseMlp, EachProductMatchesReferenceOverRandomShapes) {
  ForEachSimdTarget([] {
    for (uint64_t seed = 100; seed < 112; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed);
      Context context(static_cast<int>(random.Integer(1, 3)));
      Case c = RandomCase(random);
      Tensor cache = Tensor::CopyOf(c.cache.view()), output = Tensor::CopyOf(c.output.view());
      const Shape delta_shape{c.batch, c.groups, c.capacity, c.group_size};
      Tensor delta = Tensor::Zeros(delta_shape, DType::kF32),
             expected = Tensor::Zeros(delta_shape, DType::kF32);
      ColumnSparseMlpUp(context, InputOf(c), c.weights, c.selection, cache, delta);
      reference::ColumnSparseMlpUp(context, InputOf(c), c.weights, c.selection, c.cache, expected);
      ClearUnusedLanes(c, delta);
      ClearUnusedLanes(c, expected);
      EXPECT_LT(LargestError(delta.view(), expected.view()), 1e-5f);
      ColumnSparseMlpDown(context, expected.view(), c.weights, c.selection, OutputOf(c, output));
      reference::ColumnSparseMlpDown(context, expected.view(), c.weights, c.selection,
                                     OutputOf(c, c.output));
      EXPECT_LT(LargestError(output.view(), c.output.view()), 2e-5f);
    }
  });
}

TEST(ColumnSparseMlp, ASelectionOfEverythingGivesTheDenseResult) {
  Random random(5);
  Context context(2);
  const int64_t tokens = 150, model_dim = 40, neurons = 64;
  const Tensor before = random.Normal({1, tokens, model_dim});
  const Tensor after = random.Normal({1, tokens, model_dim});
  const Tensor fc1 = random.Normal({neurons, model_dim}, 0.2f);
  const Tensor fc2_transposed = random.Normal({neurons, model_dim}, 0.2f);
  Tensor indices({1, 2, neurons}, DType::kI32), counts({1, 2}, DType::kI32);
  for (int64_t g = 0; g < 2; ++g) {
    std::iota(indices.data<int32_t>() + g * neurons, indices.data<int32_t>() + (g + 1) * neurons,
              0);
    counts.data<int32_t>()[g] = neurons;
  }
  MlpWeights weights;
  weights.fc1_weight = fc1.view();
  weights.fc2_weight_transposed = fc2_transposed.view();
  const NeuronSelection selection{.indices = indices.view(), .counts = counts.view()};
  // From zero caches, then on to another input: the second result must not remember the first.
  Tensor cache = Tensor::Zeros({1, 2, neurons, 128}, DType::kF32),
         output = Tensor::Zeros({1, tokens, model_dim}, DType::kF32);
  ColumnSparseMlp(context, before.view(), weights, selection, cache, output);
  ColumnSparseMlp(context, after.view(), weights, selection, cache, output);
  Tensor fresh_cache = Tensor::Zeros({1, 2, neurons, 128}, DType::kF32);
  Tensor fresh = Tensor::Zeros({1, tokens, model_dim}, DType::kF32);
  reference::ColumnSparseMlp(context, after.view(), weights, selection, fresh_cache, fresh);
  EXPECT_LT(LargestError(output.view(), fresh.view()), 1e-5f);
}

TEST(StoreActivations, MatchesReferenceOverRandomShapes) {
  ForEachSimdTarget([] {
    for (uint64_t seed = 0; seed < 15; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed);
      Context context(2);
      const int64_t batch = random.Integer(1, 2), tokens = random.Integer(1, 300);
      const int64_t neurons = random.Integer(1, 90);
      const int64_t group_size = random.Coin() ? 128 : random.Integer(1, 150);
      const Shape shape{batch, (tokens + group_size - 1) / group_size, neurons, group_size};
      const Tensor activations = random.Normal({batch, tokens, neurons + 4});
      const ConstTensorView view = activations.view().Slice(2, 1, 1 + neurons);
      Tensor actual(shape, DType::kF32), expected(shape, DType::kF32);
      StoreActivations(context, view, actual);
      reference::StoreActivations(context, view, expected);
      EXPECT_EQ(LargestError(actual.view(), expected.view()), 0.0f);
    }
  });
}

TEST(ColumnSparseMlp, ErrorsNameTheArgument) {
  Random random(1);
  Context context(1);
  Case c = RandomCase(random);
  const auto message = [&](const MlpWeights& weights, const NeuronSelection& selection,
                           TensorView cache) {
    return ArgumentErrorOf([&] {
      ColumnSparseMlp(context, InputOf(c), weights, selection, cache, OutputOf(c, c.output));
    });
  };
  using ::testing::HasSubstr;
  MlpWeights weights = c.weights;
  weights.fc2_weight_transposed = {};
  EXPECT_THAT(message(weights, c.selection, c.cache), HasSubstr("fc2_weight_transposed"));
  EXPECT_THAT(message(c.weights, c.selection, c.cache.view().Slice(2, 1, c.neurons)),
              HasSubstr("cached_activations: expected shape"));
  Tensor counts = Tensor::CopyOf(c.counts.view());
  NeuronSelection selection = c.selection;
  selection.counts = counts.view();
  counts.data<int32_t>()[0] = static_cast<int32_t>(c.capacity + 1);
  EXPECT_THAT(message(c.weights, selection, c.cache), HasSubstr("counts: expected 0 to"));
  for (const int32_t index : {-1, static_cast<int32_t>(c.neurons)}) {
    Tensor indices = Tensor::CopyOf(c.indices.view());
    counts.data<int32_t>()[0] = 1;
    indices.data<int32_t>()[0] = index;
    selection.indices = indices.view();
    EXPECT_THAT(message(c.weights, selection, c.cache), HasSubstr("indices: expected 0 to"));
  }
}

}  // namespace
}  // namespace tamias
