#include "ops/top_k.h"

#include "ops/mask.h"
#include "tamias/error.h"
#include "tests/support/compare_tensors.h"
#include "tests/support/random_tensors.h"
#include "tests/support/simd_targets.h"
#include "tests/support/top_k_scores.h"

namespace tamias {
namespace {

TEST(TopKMask, MatchesReferenceOverRandomShapes) {
  ForEachSimdTarget([] {
    for (uint64_t seed = 0; seed < 60; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed);
      Context context(static_cast<int>(random.Integer(1, 3)));
      const int64_t rows = random.Integer(1, 4), n = random.Integer(1, seed % 10 == 0 ? 9000 : 700);
      const int64_t k = random.Integer(0, n + 1);
      const Tensor scores = TopKScores(random, rows, n + 3);
      const ConstTensorView view = scores.view().Slice(1, 1, n + 1);
      Tensor actual = Tensor::Zeros({rows, MaskBytes(n)}, DType::kU8);
      RandomMask(context, 0.1, seed, actual, n);
      Tensor expected = Tensor::CopyOf(actual.view());
      TopKMask(context, view, k, actual);
      reference::TopKMask(context, view, k, expected);
      EXPECT_TRUE(SameBytes(actual, expected));
    }
  });
}

TEST(TopKMask, TiesGoToTheLowerIndex) {
  Context context(1);
  Tensor scores = Tensor::Zeros({1, 1000}, DType::kF32);
  scores.data<float>()[990] = 1;
  Tensor mask = Tensor::Zeros({1, 125}, DType::kU8), counts({1}, DType::kI32);
  Tensor indices({1, 301}, DType::kI32);
  TopKMask(context, scores.view(), 301, mask);
  MaskToIndices(context, mask.view(), 1000, indices, counts);
  ASSERT_EQ(counts.data<int32_t>()[0], 301);
  for (int32_t j = 0; j < 300; ++j) EXPECT_EQ(indices.data<int32_t>()[j], j);
  EXPECT_EQ(indices.data<int32_t>()[300], 990);
}

TEST(ApproximateTopKMask, MatchesReferenceOverRandomShapes) {
  ForEachSimdTarget([] {
    for (uint64_t seed = 0; seed < 25; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed);
      Context context(2);
      const int64_t rows = random.Integer(1, 4), n = random.Integer(1, 900);
      const int64_t k = random.Integer(0, n + 1), sample_size = random.Integer(1, 300);
      const Tensor scores = TopKScores(random, rows, n);
      Tensor actual = Tensor::Zeros({rows, MaskBytes(n)}, DType::kU8);
      Tensor expected = Tensor::Zeros({rows, MaskBytes(n)}, DType::kU8);
      ApproximateTopKMask(context, scores.view(), k, sample_size, seed, actual);
      reference::ApproximateTopKMask(context, scores.view(), k, sample_size, seed, expected);
      EXPECT_TRUE(SameBytes(actual, expected));
    }
  });
}

TEST(ApproximateTopKMask, SelectsAboutKAndOnlyTheLargest) {
  Context context(2);
  Random random(3);
  const int64_t n = 12288, k = 3686;  // FLUX.1: 0.3 of 4 * 3072 neurons
  const Tensor scores = random.Normal({6, n});
  Tensor mask = Tensor::Zeros({6, MaskBytes(n)}, DType::kU8), counts({6}, DType::kI32);
  ApproximateTopKMask(context, scores.view(), k, 1024, 5, mask);
  CountMask(context, mask.view(), counts);
  for (int64_t r = 0; r < 6; ++r) {
    const double spread = 12288 * std::sqrt(0.3 * 0.7 / 1024);
    EXPECT_NEAR(counts.data<int32_t>()[r], k, 4 * spread);
    Tensor exact = Tensor::Zeros({1, MaskBytes(n)}, DType::kU8);
    TopKMask(context, scores.view().Slice(0, r, r + 1), counts.data<int32_t>()[r], exact);
    EXPECT_TRUE(std::equal(exact.data<uint8_t>(), exact.data<uint8_t>() + MaskBytes(n),
                           mask.data<uint8_t>() + r * MaskBytes(n)));
  }
}

TEST(TopKMask, RefusesWrongArguments) {
  Context context(1);
  const Tensor scores = Tensor::Zeros({2, 16}, DType::kF32);
  Tensor mask = Tensor::Zeros({2, 2}, DType::kU8), small = Tensor::Zeros({2, 1}, DType::kU8);
  EXPECT_THROW(TopKMask(context, scores.view(), -1, mask), Error);
  EXPECT_THROW(TopKMask(context, scores.view(), 1, small), Error);
  EXPECT_THROW(ApproximateTopKMask(context, scores.view(), 1, 0, 1, mask), Error);
}

}  // namespace
}  // namespace tamias
