#include "ops/conv3d.h"

#include "base/dry_run.h"
#include "ops/norm.h"
#include "tests/support/conv_case.h"

namespace tamias {
namespace {

Shape OutputShape(const Shape& input, const Shape& weight, const Padding3d& p) {
  return {input[0], input[1] + p.front + p.back - weight[2] + 1,
          input[2] + p.top + p.bottom - weight[3] + 1, input[3] + p.left + p.right - weight[4] + 1,
          weight[0]};
}

Tensor RandomWeight(Random& random, const Shape& shape) {
  const int64_t terms = shape.NumElements() / shape[0];
  return random.Normal(shape, 1 / std::sqrt(static_cast<float>(terms)), RandomWeightType(random));
}

class Conv3dOf : public testing::TestWithParam<DType> {};

TEST_P(Conv3dOf, MatchesReference) {
  const ConvTest test(GetParam());
  for (uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Context context(test.placement(), static_cast<int>(random.Integer(1, 3)));
    const int64_t inputs = random.Integer(1, 40), outputs = random.Integer(1, 40);
    const Shape kernel = {outputs, inputs, random.Integer(1, 3), random.Integer(1, 3),
                          random.Integer(1, 3)};
    const Shape shape = {random.Integer(1, 2), random.Integer(3, 6), random.Integer(3, 9),
                         random.Integer(3, 9), inputs};
    const auto side = [&](int axis) { return random.Integer(0, kernel[axis] - 1); };
    Conv3dOptions options;
    options.padding = {side(2),
                       side(2),
                       side(3),
                       side(3),
                       side(4),
                       side(4),
                       random.Coin() ? PaddingMode::kReplicate : PaddingMode::kZeros};
    options.accumulate = random.Coin();
    options.input_silu = random.Coin();
    const Shape per_channel = {shape[0], random.Coin() ? 1 : shape[1], inputs};
    const Tensor gain = random.Normal(per_channel), offset = random.Normal(per_channel);
    if (random.Coin()) {
      options.input_gain = gain.view();
      options.input_offset = offset.view();
    }
    const Tensor values = test.Values(random.Normal(shape)), input = test.Operand(values);
    const Tensor weight = RandomWeight(random, kernel);
    const Tensor biases = random.Normal({outputs}, 1, RandomWeightType(random));
    const ConstTensorView bias = random.Coin() ? biases.view() : ConstTensorView();
    const Shape result = OutputShape(shape, kernel, options.padding);
    Tensor actual_storage, expected_storage;
    const TensorView actual = Apart(actual_storage, result, 2, test.dtype);
    const TensorView expected = Apart(expected_storage, result, 2);
    Conv3d(context, input, weight, bias, options, actual);
    reference::Conv3d(context, values, weight, bias, options, expected);
    EXPECT_LT(LargestError(ToFloat32(actual_storage).view(), expected_storage.view()),
              test.tolerance());
    EXPECT_EQ(context.workspace().peak_bytes(),
              PlannedWorkspace(context.placement(), context.threads(), [&](Context& planned) {
                Conv3d(planned, input, weight, bias, options, actual);
              }));
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Conv3dOf, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& test) { return std::string(Name(test.param)); });

TEST(Conv3d, WorksThroughStrips) {
  Random random(100);
  Context context(2);
  // A row is 257 KB: strips of 8 rows, the last of 5.
  const Tensor input = random.Normal({1, 2, 21, 1024, 64}),
               weight = RandomWeight(random, {2, 64, 2, 3, 3});
  const Tensor gain = random.Normal({1, 1, 64}), offset = random.Normal({1, 1, 64});
  const Padding3d padding = {1, 0, 1, 1, 1, 1, PaddingMode::kReplicate};
  Tensor actual({1, 2, 21, 1024, 2}, DType::kF32);
  Conv3d(context, input, weight, {},
         {.padding = padding, .input_gain = gain, .input_offset = offset, .input_silu = true},
         actual);
  // In one piece: an input that holds its padding, already scaled.
  Tensor padded({1, 3, 23, 1026, 64}, DType::kF32), whole(actual.shape(), DType::kF32);
  Tensor scaled(input.shape(), DType::kF32);
  ScaleShiftChannels(context, input.view().Reshape({1, 42, 1024, 64}), gain.view().Select(0, 0),
                     offset.view().Select(0, 0), true, scaled.view().Reshape({1, 42, 1024, 64}));
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t y = 0; y < 23; ++y) {
      for (int64_t x = 0; x < 1026; ++x) {
        const int64_t from =
            (std::clamp<int64_t>(t - 1, 0, 1) * 21 + std::clamp<int64_t>(y - 1, 0, 20)) * 1024 +
            std::clamp<int64_t>(x - 1, 0, 1023);
        std::copy_n(scaled.data<float>() + from * 64, 64,
                    padded.data<float>() + ((t * 23 + y) * 1026 + x) * 64);
      }
    }
  }
  Conv3d(context, padded, weight, {}, {}, whole);
  EXPECT_LT(LargestError(actual.view(), whole.view()), 1e-5f);
}

// A film in two pieces, the second beginning with the two frames before it, is the film in one.
TEST(Conv3d, ContinuesACausalFilm) {
  Random random(102);
  Context context(2);
  const Tensor input = random.Normal({1, 5, 6, 7, 16}),
               weight = RandomWeight(random, {8, 16, 3, 3, 3});
  const Padding3d space = {0, 0, 1, 1, 1, 1};
  Padding3d causal = space;
  causal.front = 2;
  Tensor whole({1, 5, 6, 7, 8}, DType::kF32), pieces({1, 5, 6, 7, 8}, DType::kF32);
  Conv3d(context, input, weight, {}, {.padding = causal}, whole);
  Conv3d(context, input.view().Slice(1, 0, 3), weight, {}, {.padding = causal},
         pieces.view().Slice(1, 0, 3));
  Conv3d(context, input.view().Slice(1, 1, 5), weight, {}, {.padding = space},
         pieces.view().Slice(1, 3, 5));
  EXPECT_LT(LargestError(pieces.view(), whole.view()), 1e-6f);
}

// A kernel of three frames is the sum of its slices, which are read in place.
TEST(Conv3d, TakesSlicesOfALongerKernel) {
  for (uint64_t seed = 200; seed < 206; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Context context(2);
    const Tensor input = random.Normal({1, 3, 6, 7, 16}),
                 weight = RandomWeight(random, {8, 16, 3, 3, 3}), bias = random.Normal({8});
    const Padding3d space = {0, 0, 1, 1, 1, 1, PaddingMode::kReplicate};
    Tensor whole({1, 1, 6, 7, 8}, DType::kF32), slices({1, 1, 6, 7, 8}, DType::kF32);
    Conv3d(context, input, weight, bias, {.padding = space}, whole);
    for (int64_t k = 0; k < 3; ++k) {
      Conv3d(context, input.view().Slice(1, k, k + 1), weight.view().Slice(2, k, k + 1),
             k == 0 ? bias.view() : ConstTensorView(), {.padding = space, .accumulate = k > 0},
             slices);
    }
    EXPECT_LT(LargestError(slices.view(), whole.view()), 1e-6f);
  }
}

TEST(Conv3d, NamesTheArgumentThatDoesNotFit) {
  Context context(1);
  Tensor x({1, 3, 4, 5, 3}, DType::kF32), weight({2, 3, 3, 3, 3}, DType::kF32);
  Tensor y({1, 3, 4, 5, 2}, DType::kF32), wrong({2, 4, 3, 3, 3}, DType::kF32);
  Tensor bias({2}, DType::kF32), gain({1, 2, 3}, DType::kF32);
  const Padding3d same = {1, 1, 1, 1, 1, 1};
  const auto error = [&](const ConstTensorView& in, const ConstTensorView& w,
                         const ConstTensorView& b, const Conv3dOptions& options,
                         const TensorView& out) {
    return ArgumentErrorOf([&] { Conv3d(context, in, w, b, options, out); });
  };
  EXPECT_EQ(error(x, weight, bias, {.padding = same}, y), "");
  EXPECT_EQ(error(x, wrong, bias, {.padding = same}, y),
            "conv3d: weight: expected shape [any, 3, any, any, any], found [2, 4, 3, 3, 3]");
  EXPECT_EQ(error(x, weight, bias, {.padding = {-1, 0, 0, 0, 0, 0}}, y),
            "conv3d: padding: expected at least 0, found -1");
  EXPECT_EQ(error(x, weight, bias, {.padding = {3, 0, 0, 0, 0, 0, PaddingMode::kReplicate}}, y),
            "conv3d: padding: expected less than the kernel (3), found 3");
  EXPECT_EQ(error(x.view().Slice(1, 0, 1), weight, bias, {.padding = {1, 0, 1, 1, 1, 1}}, y),
            "conv3d: input: expected at least 3 along each axis with padding, found 2");
  EXPECT_EQ(error(x, weight, bias, {.padding = same, .input_gain = gain, .input_offset = gain}, y),
            "conv3d: input_gain: expected shape [1, 3, 3], found [1, 2, 3]");
  EXPECT_NE(error(bias, weight, bias, {.padding = same}, y), "");
  EXPECT_NE(error(x, weight, gain, {.padding = same}, y), "");
  EXPECT_NE(error(x, weight, bias, {}, y), "");
  EXPECT_NE(error(x, weight, bias, {.padding = same, .input_gain = gain}, y), "");
}

}  // namespace
}  // namespace tamias
