#include "ops/block_mean.h"

#include "tamias/error.h"
#include "tests/support/compare_tensors.h"
#include "tests/support/random_tensors.h"
#include "tests/support/simd_targets.h"

namespace tamias {
namespace {

TEST(BlockMean, MatchesReferenceOverRandomShapes) {
  ForEachSimdTarget([] {
    for (uint64_t seed = 0; seed < 10; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed);
      Context context(static_cast<int>(random.Integer(1, 3)));
      const int64_t batch = random.Integer(1, 3), tokens = random.Integer(1, 300);
      const int64_t width = random.Integer(1, 150), group_size = random.Integer(1, 140);
      const Tensor input = random.Normal({batch, tokens, width + 5});
      const ConstTensorView view = input.view().Slice(2, 2, 2 + width);
      const int64_t groups = (tokens + group_size - 1) / group_size;
      Tensor actual({batch, groups, width}, DType::kF32),
          expected({batch, groups, width}, DType::kF32);
      BlockMean(context, view, group_size, actual);
      reference::BlockMean(context, view, group_size, expected);
      EXPECT_LT(LargestError(actual.view(), expected.view()), 1e-5f);
    }
  });
}

TEST(BlockMean, RefusesAWrongNumberOfGroups) {
  Context context(1);
  const Tensor input({1, 129, 8}, DType::kF32);
  Tensor output({1, 1, 8}, DType::kF32);
  EXPECT_THROW(BlockMean(context, input.view(), 128, output), Error);
  EXPECT_THROW(BlockMean(context, input.view(), 0, output), Error);
}

}  // namespace
}  // namespace tamias
