#include "ops/embedding.h"

#include "tests/support/operands.h"

namespace tamias {
namespace {

Tensor Ids(Shape shape, std::initializer_list<int32_t> ids) {
  Tensor tensor(shape, DType::kI32);
  std::copy(ids.begin(), ids.end(), tensor.data<int32_t>());
  return tensor;
}

TEST(Embedding, MatchesReference) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Context context(2);
    const int64_t rows = random.Integer(1, 50), width = random.Integer(1, 70);
    const Operand table = RandomOperand(random, {rows, width}, 1, RandomWeightType(random));
    Tensor ids({2, random.Integer(1, 30)}, DType::kI32);
    for (int64_t i = 0; i < ids.NumElements(); ++i) {
      ids.data<int32_t>()[i] = static_cast<int32_t>(random.Integer(0, rows - 1));
    }
    Tensor actual({2, ids.dim(1), width}, DType::kF32), expected(actual.shape(), DType::kF32);
    Embedding(context, table.view, ids, actual);
    reference::Embedding(context, table.view, ids, expected);
    EXPECT_EQ(LargestError(actual.view(), expected.view()), 0);
  }
}

TEST(Embedding, NamesTheIdOutOfRange) {
  Context context(1);
  Tensor table = Tensor::Zeros({4, 3}, DType::kF32), output({2, 3}, DType::kF32);
  EXPECT_EQ(ArgumentErrorOf([&] {
              Embedding(context, table, Ids({2}, {1, 4}), output);
            }),
            "embedding: ids: expected 0 to 3 at place 1, found 4");
  EXPECT_EQ(ArgumentErrorOf([&] {
              Embedding(context, table, Ids({2}, {-1, 0}), output);
            }),
            "embedding: ids: expected 0 to 3 at place 0, found -1");
}

TEST(Embedding, NamesTheArgumentThatDoesNotFit) {
  Context context(1);
  Tensor table = Tensor::Zeros({4, 3}, DType::kF32), output({2, 3}, DType::kF32);
  const Tensor ids = Ids({2}, {1, 2});
  EXPECT_NE(ArgumentErrorOf([&] { Embedding(context, table.view().Select(0, 0), ids, output); }),
            "");
  EXPECT_NE(ArgumentErrorOf([&] { Embedding(context, table, table, output); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { Embedding(context, table, ids, table); }), "");
}

}  // namespace
}  // namespace tamias
