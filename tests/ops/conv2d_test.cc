#include "ops/conv2d.h"

#include "base/dry_run.h"
#include "tests/support/conv_case.h"

namespace tamias {
namespace {

TEST(Conv2d, MatchesReference) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Context context(static_cast<int>(random.Integer(1, 3)));
    const int64_t batch = random.Integer(1, 2), inputs = random.Integer(1, 40);
    const int64_t outputs = random.Integer(1, 40), kernel = random.Integer(1, 3);
    const Shape shape = {batch, random.Integer(3, 14), random.Integer(3, 14), inputs};
    const ConvCase c = RandomCase(random, shape, {outputs, inputs, kernel, kernel});
    Conv2dOptions options;
    options.padding = {random.Integer(0, kernel - 1), random.Integer(0, kernel - 1),
                       random.Integer(0, kernel - 1), random.Integer(0, kernel - 1)};
    options.accumulate = random.Coin();
    options.input_silu = random.Coin();
    if (random.Coin()) {
      options.input_gain = c.gain.view();
      options.input_offset = c.offset.view();
    }
    const Padding& padding = options.padding;
    const Shape result = {batch, shape[1] + padding.top + padding.bottom - kernel + 1,
                          shape[2] + padding.left + padding.right - kernel + 1, outputs};
    Tensor actual_storage, expected_storage;
    const TensorView actual = Apart(actual_storage, result);
    const TensorView expected = Apart(expected_storage, result);
    const ConstTensorView bias = random.Coin() ? c.bias.view() : ConstTensorView();
    Conv2d(context, c.input, c.weight, bias, options, actual);
    reference::Conv2d(context, c.input, c.weight, bias, options, expected);
    EXPECT_LT(LargestError(actual_storage.view(), expected_storage.view()), 2e-5f);
    EXPECT_EQ(context.workspace().peak_bytes(),
              PlannedWorkspace(context.placement(), context.threads(), [&](Context& planned) {
                Conv2d(planned, c.input, c.weight, bias, options, actual);
              }));
  }
}

TEST(Conv2d, WorksThroughStrips) {
  Random random(100);
  Context context(2);
  // A row is 256 KB: strips of 8 rows, the last of 5.
  const ConvCase c = RandomCase(random, {1, 29, 1024, 64}, {2, 64, 3, 3});
  const Conv2dOptions options = {.padding = {1, 1, 1, 1},
                                 .input_gain = c.gain.view(),
                                 .input_offset = c.offset.view(),
                                 .input_silu = true};
  Tensor actual({1, 29, 1024, 2}, DType::kF32), whole({1, 29, 1024, 2}, DType::kF32);
  Conv2d(context, c.input, c.weight, c.bias, options, actual);
  // The reference on the scaled input: ScaleShiftChannels has its own test.
  Tensor scaled(c.input.shape(), DType::kF32);
  for (int64_t i = 0; i < scaled.NumElements(); ++i) {
    const float x =
        c.input.data<float>()[i] * c.gain.data<float>()[i % 64] + c.offset.data<float>()[i % 64];
    scaled.data<float>()[i] = x / (1 + std::exp(-x));
  }
  Conv2d(context, scaled, c.weight, c.bias, {.padding = {1, 1, 1, 1}}, whole);
  EXPECT_LT(LargestError(actual.view(), whole.view()), 1e-5f);
}

TEST(Conv2d, NamesTheArgumentThatDoesNotFit) {
  Context context(1);
  Tensor x({1, 4, 5, 3}, DType::kF32), weight({2, 3, 3, 3}, DType::kF32),
      y({1, 4, 5, 2}, DType::kF32);
  Tensor wrong({2, 4, 3, 3}, DType::kF32), bias({2}, DType::kF32), gain({1, 3}, DType::kF32);
  const Conv2dOptions same = {.padding = {1, 1, 1, 1}};
  const auto error = [&](const ConstTensorView& in, const ConstTensorView& w,
                         const ConstTensorView& b, const Conv2dOptions& options,
                         const TensorView& out) {
    return ArgumentErrorOf([&] { Conv2d(context, in, w, b, options, out); });
  };
  EXPECT_EQ(error(x, wrong, bias, same, y),
            "conv2d: weight: expected shape [any, 3, any, any], found [2, 4, 3, 3]");
  EXPECT_EQ(error(x, weight, bias, {.padding = {-1, 0, 0, 0}}, y),
            "conv2d: padding: expected at least 0, found -1");
  EXPECT_EQ(error(x.view().Slice(1, 0, 1), weight, bias, {}, y),
            "conv2d: input: expected at least 3 x 3 pixels with padding, found 1 x 5");
  EXPECT_NE(error(bias, weight, bias, same, y), "");
  EXPECT_NE(error(x, weight, gain, same, y), "");
  EXPECT_NE(error(x, weight, bias, {}, y), "");
  EXPECT_NE(error(x, weight, bias, {.padding = {1, 1, 1, 1}, .input_gain = gain.view()}, y), "");
  EXPECT_NE(
      error(x, weight, bias,
            {.padding = {1, 1, 1, 1}, .input_gain = gain.view(), .input_offset = bias.view()}, y),
      "");
}

}  // namespace
}  // namespace tamias
