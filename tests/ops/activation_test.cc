#include "ops/activation.h"

#include "tamias/error.h"
#include "tests/support/compare_tensors.h"
#include "tests/support/random_tensors.h"
#include "tests/support/simd_targets.h"

namespace tamias {
namespace {

constexpr Activation kAll[] = {Activation::kNone,    Activation::kRelu, Activation::kGeluTanh,
                               Activation::kGeluErf, Activation::kSilu, Activation::kQuickGelu,
                               Activation::kTanh};

TEST(Activate, MatchesReferenceFromTinyToHuge) {
  ForEachSimdTarget([] {
    Context context(2);
    Random random(1);
    for (const Activation activation : kAll) {
      SCOPED_TRACE(static_cast<int>(activation));
      for (const float scale : {1e-20f, 1e-3f, 1.0f, 5.0f, 100.0f, 1e15f}) {
        Tensor actual = random.Normal({3, 777}, scale);
        Tensor expected = Tensor::CopyOf(actual.view());
        Activate(context, activation, actual);
        reference::Activate(context, activation, expected);
        // fp32 rounding of x sigmoid(z); 1.5e-7 is the error of the erfc formula
        EXPECT_LT(LargestError(actual.view(), expected.view()), 2e-6f) << scale;
      }
    }
  });
}

TEST(Activate, ServesStridedViewsAndLeavesTheRestAlone) {
  Context context(3);
  Random random(2);
  Tensor actual = random.Normal({4, 5, 37});
  Tensor expected = Tensor::CopyOf(actual.view());
  Activate(context, Activation::kSilu, actual.view().Slice(1, 1, 4).Slice(2, 3, 30));
  reference::Activate(context, Activation::kSilu, expected.view().Slice(1, 1, 4).Slice(2, 3, 30));
  EXPECT_LT(LargestError(actual.view(), expected.view()), 1e-6f);
}

TEST(Activate, KeepsNanAndInfinity) {
  ForEachSimdTarget([] {
    Context context(1);
    for (const Activation activation : kAll) {
      SCOPED_TRACE(static_cast<int>(activation));
      Tensor values({17}, DType::kF32);
      std::fill_n(values.data<float>(), 17, NAN);
      values.data<float>()[3] = INFINITY;
      Activate(context, activation, values);
      EXPECT_TRUE(std::isnan(values.data<float>()[0]));
      EXPECT_TRUE(std::isnan(values.data<float>()[16]));
      EXPECT_EQ(values.data<float>()[3], activation == Activation::kTanh ? 1 : INFINITY);
    }
  });
}

TEST(Activate, RefusesOtherTypes) {
  Context context(1);
  Tensor values({4}, DType::kBF16);
  EXPECT_THROW(Activate(context, Activation::kRelu, values), Error);
}

}  // namespace
}  // namespace tamias
