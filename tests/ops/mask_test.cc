#include "ops/mask.h"

#include <gmock/gmock.h>

#include "tests/support/compare_tensors.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"
#include "tests/support/simd_targets.h"

namespace tamias {
namespace {

Tensor EmptyMask(int64_t rows, int64_t n) {
  return Tensor::Zeros({rows, MaskBytes(n)}, DType::kU8);
}

TEST(Mask, RandomCountAndIndicesMatchReferenceOverRandomShapes) {
  ForEachSimdTarget([] {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed);
      Context context(static_cast<int>(random.Integer(1, 3)));
      const int64_t rows = random.Integer(1, 7), n = random.Integer(1, 700);
      const double probability = static_cast<double>(random.Integer(0, 10)) / 10;
      Tensor mask = EmptyMask(rows, n), expected_mask = EmptyMask(rows, n);
      RandomMask(context, probability, seed, mask, n);
      reference::RandomMask(context, probability, seed, expected_mask, n);
      EXPECT_TRUE(SameBytes(mask, expected_mask));

      Tensor counts({rows}, DType::kI32), expected_counts({rows}, DType::kI32);
      CountMask(context, mask.view(), counts);
      reference::CountMask(context, mask.view(), expected_counts);
      int64_t capacity = 0;  // exactly what the fullest row needs: nothing may be written past it
      for (int64_t r = 0; r < rows; ++r) {
        EXPECT_EQ(counts.data<int32_t>()[r], expected_counts.data<int32_t>()[r]);
        capacity = std::max<int64_t>(capacity, counts.data<int32_t>()[r]);
      }
      Tensor indices = Tensor::Zeros({rows, capacity}, DType::kI32);
      Tensor expected = Tensor::Zeros({rows, capacity}, DType::kI32);
      MaskToIndices(context, mask.view(), n, indices, counts);
      reference::MaskToIndices(context, mask.view(), n, expected, expected_counts);
      for (int64_t r = 0; r < rows; ++r) {
        ASSERT_EQ(counts.data<int32_t>()[r], expected_counts.data<int32_t>()[r]);
        for (int64_t j = 0; j < counts.data<int32_t>()[r]; ++j) {
          ASSERT_EQ(indices.data<int32_t>()[r * capacity + j],
                    expected.data<int32_t>()[r * capacity + j]);
        }
      }
    }
  });
}

TEST(Mask, RandomBitsComeAtTheProbabilityAskedFor) {
  Context context(2);
  const int64_t rows = 8, n = 10000;
  Tensor mask = EmptyMask(rows, n), counts({rows}, DType::kI32);
  RandomMask(context, 0.05, 7, mask, n);
  CountMask(context, mask.view(), counts);
  for (int64_t r = 0; r < rows; ++r) {
    EXPECT_NEAR(counts.data<int32_t>()[r], 500, 5 * 21.8);  // five standard deviations
  }
  RandomMask(context, 1.0, 7, mask, n);
  CountMask(context, mask.view(), counts);
  EXPECT_EQ(counts.data<int32_t>()[0], n);
}

TEST(Mask, OrTakesTheFirstBitsOfRowsThatRepeat) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Context context(static_cast<int>(random.Integer(1, 3)));
    const int64_t shared = random.Integer(1, 4), rows = shared * random.Integer(0, 4);
    const int64_t n = random.Integer(1, 700), limit = random.Integer(0, n);
    Tensor source = EmptyMask(shared, n), mask = EmptyMask(rows, n);
    reference::RandomMask(context, 0.5, seed, source, n);
    reference::RandomMask(context, 0.1, seed + 1, mask, n);
    Tensor expected = Tensor::CopyOf(mask.view());
    OrMask(context, source.view(), limit, mask);
    reference::OrMask(context, source.view(), limit, expected);
    EXPECT_TRUE(SameBytes(mask, expected));
  }
}

TEST(Mask, RangesSetExactlyTheirBits) {
  Context context(1);
  for (int64_t begin = 0; begin <= 20; ++begin) {
    for (int64_t end = begin; end <= 21; ++end) {
      Tensor mask = EmptyMask(2, 21), counts({2}, DType::kI32);
      Tensor indices({2, 21}, DType::kI32);
      SetMaskRange(mask, 1, begin, end);
      MaskToIndices(context, mask.view(), 21, indices, counts);
      EXPECT_EQ(counts.data<int32_t>()[0], 0);
      ASSERT_EQ(counts.data<int32_t>()[1], end - begin);
      for (int64_t j = begin; j < end; ++j) {
        EXPECT_EQ(indices.data<int32_t>()[21 + j - begin], j);
      }
    }
  }
}

TEST(Mask, ACapacityThatIsTooSmallIsAnErrorThatNamesTheRow) {
  Context context(2);
  Tensor mask = EmptyMask(3, 100), counts({3}, DType::kI32), indices({3, 9}, DType::kI32);
  SetMaskRange(mask, 2, 30, 40);
  ExpectError(ErrorCode::kInvalidArgument, "row 2 has 10 columns",
              [&] { MaskToIndices(context, mask.view(), 100, indices, counts); });
}

TEST(Mask, RefusesWrongShapesAndProbabilities) {
  Context context(1);
  Tensor mask = EmptyMask(2, 16);
  EXPECT_THROW(RandomMask(context, 0.5, 1, mask, 17), Error);
  EXPECT_THROW(RandomMask(context, 1.5, 1, mask, 16), Error);
  EXPECT_THROW(RandomMask(context, NAN, 1, mask, 16), Error);
  EXPECT_THROW(SetMaskRange(mask, 2, 0, 1), Error);
  EXPECT_THROW(SetMaskRange(mask, 0, 5, 17), Error);
}

}  // namespace
}  // namespace tamias
