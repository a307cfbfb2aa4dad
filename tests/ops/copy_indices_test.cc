#include "ops/copy_indices.h"

#include <numeric>

#include "tamias/error.h"
#include "tests/support/compare_tensors.h"
#include "tests/support/random_tensors.h"

namespace tamias {
namespace {

TEST(CopyIndices, CopiesTheChosenColumnsOnly) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Context context(2);
    const int64_t rows = random.Integer(1, 9), columns = random.Integer(1, 200);
    const int64_t capacity = random.Integer(0, columns);
    const Tensor source = random.Normal({rows, columns});
    Tensor actual = random.Normal({rows, columns});
    Tensor expected = Tensor::CopyOf(actual.view());
    Tensor indices({rows, capacity}, DType::kI32), counts({rows}, DType::kI32);
    for (int64_t r = 0; r < rows; ++r) {
      counts.data<int32_t>()[r] = static_cast<int32_t>(random.Integer(0, capacity));
      for (int64_t j = 0; j < capacity; ++j) {
        indices.data<int32_t>()[r * capacity + j] =
            static_cast<int32_t>(random.Integer(0, columns - 1));
      }
    }
    CopyIndices(context, source.view(), indices.view(), counts.view(), actual);
    reference::CopyIndices(context, source.view(), indices.view(), counts.view(), expected);
    EXPECT_EQ(LargestError(actual.view(), expected.view()), 0.0f);
  }
}

TEST(CopyIndices, RefusesIndicesAndCountsOutOfRange) {
  Context context(1);
  const Tensor source = Tensor::Zeros({1, 4}, DType::kF32);
  Tensor destination = Tensor::Zeros({1, 4}, DType::kF32);
  Tensor indices = Tensor::Zeros({1, 2}, DType::kI32), counts = Tensor::Zeros({1}, DType::kI32);
  counts.data<int32_t>()[0] = 3;
  EXPECT_THROW(CopyIndices(context, source.view(), indices.view(), counts.view(), destination),
               Error);
  counts.data<int32_t>()[0] = 1;
  for (const int32_t index : {-1, 4}) {
    indices.data<int32_t>()[0] = index;
    EXPECT_THROW(CopyIndices(context, source.view(), indices.view(), counts.view(), destination),
                 Error);
  }
}

}  // namespace
}  // namespace tamias
