#include "ops/upsample_conv2d.h"

#include "base/dry_run.h"
#include "ops/conv2d.h"
#include "tests/support/conv_case.h"

namespace tamias {
namespace {

TEST(UpsampleConv2d, MatchesReference) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Context context(static_cast<int>(random.Integer(1, 3)));
    const Shape shape = {random.Integer(1, 2), random.Integer(1, 12), random.Integer(1, 12),
                         random.Integer(1, 40)};
    const int64_t outputs = random.Integer(1, 40);
    const ConvCase c = RandomCase(random, shape, {outputs, shape[3], 3, 3});
    const Shape result = {shape[0], 2 * shape[1], 2 * shape[2], outputs};
    Tensor actual_storage, expected_storage;
    const TensorView actual = Apart(actual_storage, result);
    const TensorView expected = Apart(expected_storage, result);
    const ConstTensorView bias = random.Coin() ? c.bias.view() : ConstTensorView();
    UpsampleConv2d(context, c.input, c.weight, bias, actual);
    reference::UpsampleConv2d(context, c.input, c.weight, bias, expected);
    EXPECT_LT(LargestError(actual_storage.view(), expected_storage.view()), 2e-5f);
    EXPECT_EQ(context.workspace().peak_bytes(),
              PlannedWorkspace(context.placement(), context.threads(), [&](Context& planned) {
                UpsampleConv2d(planned, c.input, c.weight, bias, actual);
              }));
  }
}

TEST(UpsampleConv2d, WorksThroughStrips) {
  Random random(101);
  Context context(2);
  // A row is 512 KB: strips of 4 rows, the last of 3.
  const ConvCase c = RandomCase(random, {1, 11, 2048, 64}, {2, 64, 3, 3});
  Tensor actual({1, 22, 4096, 2}, DType::kF32), expected({1, 22, 4096, 2}, DType::kF32);
  UpsampleConv2d(context, c.input, c.weight, c.bias, actual);
  Tensor enlarged({1, 22, 4096, 64}, DType::kF32);
  for (int64_t y = 0; y < 22; ++y) {
    for (int64_t x = 0; x < 4096; ++x) {
      std::copy_n(c.input.data<float>() + (y / 2 * 2048 + x / 2) * 64, 64,
                  enlarged.data<float>() + (y * 4096 + x) * 64);
    }
  }
  Conv2d(context, enlarged, c.weight, c.bias, {.padding = {1, 1, 1, 1}}, expected);
  EXPECT_LT(LargestError(actual.view(), expected.view()), 1e-5f);
}

TEST(UpsampleConv2d, NamesTheArgumentThatDoesNotFit) {
  Context context(1);
  Tensor x({1, 4, 5, 3}, DType::kF32), weight({2, 3, 3, 3}, DType::kF32);
  Tensor y({1, 8, 10, 2}, DType::kF32), bias({2}, DType::kF32), small({2, 3, 2, 2}, DType::kF32);
  EXPECT_EQ(ArgumentErrorOf([&] { UpsampleConv2d(context, x, small, bias, y); }),
            "upsample conv2d: weight: expected shape [any, 3, 3, 3], found [2, 3, 2, 2]");
  EXPECT_NE(ArgumentErrorOf([&] { UpsampleConv2d(context, bias, weight, bias, y); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { UpsampleConv2d(context, x, weight, x, y); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { UpsampleConv2d(context, x, weight, bias, x); }), "");
}

}  // namespace
}  // namespace tamias
