#include "ops/upsample_conv3d.h"

#include "base/dry_run.h"
#include "tests/support/conv_case.h"

namespace tamias {
namespace {

class UpsampleConv3dOf : public testing::TestWithParam<DType> {};

TEST_P(UpsampleConv3dOf, MatchesReference) {
  const ConvTest test(GetParam());
  for (uint64_t seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Context context(test.placement(), static_cast<int>(random.Integer(1, 3)));
    const Shape shape = {random.Integer(1, 2), random.Integer(1, 5), random.Integer(1, 7),
                         random.Integer(1, 7), random.Integer(1, 30)};
    const Shape kernel = {random.Integer(1, 30), shape[4], random.Integer(1, 3), 3, 3};
    const UpsampleConv3dOptions options = {
        random.Coin(), random.Coin() ? PaddingMode::kReplicate : PaddingMode::kZeros};
    const float scale = 1 / std::sqrt(static_cast<float>(9 * kernel[1] * kernel[2]));
    const Tensor values = test.Values(random.Normal(shape)), input = test.Operand(values);
    const Tensor weight = random.Normal(kernel, scale, RandomWeightType(random));
    const Tensor biases = random.Normal({kernel[0]}, 1, RandomWeightType(random));
    const ConstTensorView bias = random.Coin() ? biases.view() : ConstTensorView();
    const Shape result = {shape[0], UpsampledFrames(shape[1], options.doubles_frames), 2 * shape[2],
                          2 * shape[3], kernel[0]};
    Tensor actual_storage, expected_storage;
    const TensorView actual = Apart(actual_storage, result, 2, test.dtype);
    const TensorView expected = Apart(expected_storage, result, 2);
    UpsampleConv3d(context, input, weight, bias, options, actual);
    reference::UpsampleConv3d(context, values, weight, bias, options, expected);
    EXPECT_LT(LargestError(ToFloat32(actual_storage).view(), expected_storage.view()),
              test.tolerance());
    EXPECT_EQ(context.workspace().peak_bytes(),
              PlannedWorkspace(context.placement(), context.threads(), [&](Context& planned) {
                UpsampleConv3d(planned, input, weight, bias, options, actual);
              }));
  }
}

INSTANTIATE_TEST_SUITE_P(Types, UpsampleConv3dOf, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& test) { return std::string(Name(test.param)); });

TEST(UpsampleConv3d, NamesTheArgumentThatDoesNotFit) {
  Context context(1);
  Tensor x({1, 2, 4, 5, 3}, DType::kF32), weight({2, 3, 3, 3, 3}, DType::kF32);
  Tensor y({1, 3, 8, 10, 2}, DType::kF32), bias({2}, DType::kF32);
  Tensor small({2, 3, 3, 2, 2}, DType::kF32);
  const UpsampleConv3dOptions doubled = {.doubles_frames = true};
  EXPECT_EQ(ArgumentErrorOf([&] { UpsampleConv3d(context, x, weight, bias, doubled, y); }), "");
  EXPECT_EQ(ArgumentErrorOf([&] { UpsampleConv3d(context, x, small, bias, doubled, y); }),
            "upsample conv3d: weight: expected shape [any, 3, any, 3, 3], found [2, 3, 3, 2, 2]");
  EXPECT_EQ(ArgumentErrorOf([&] {
              UpsampleConv3d(context, x.view().Slice(1, 0, 0), weight, bias, doubled, y);
            }),
            "upsample conv3d: input: expected a frame and a kernel of one, found 0 and 3");
  EXPECT_NE(ArgumentErrorOf([&] { UpsampleConv3d(context, bias, weight, bias, doubled, y); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { UpsampleConv3d(context, x, weight, x, doubled, y); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { UpsampleConv3d(context, x, weight, bias, {}, y); }), "");
}

}  // namespace
}  // namespace tamias
