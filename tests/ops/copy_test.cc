#include "ops/copy.h"

#include <algorithm>
#include <span>
#include <vector>

#include "ops/copy_values.h"
#include "tests/support/copy_case.h"
#include "tests/support/operands.h"

namespace tamias {
namespace {

TEST(Copy, MatchesReferenceOverRandomShapes) {
  for (uint64_t seed = 0; seed < 120; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Context context(static_cast<int>(random.Integer(1, 3)));
    const Shape shape = RandomCopyShape(random);
    const DType dtype = kCopyTypes[seed % 6];
    CopySide source = MakeCopySide(random, shape, dtype);
    CopySide actual = MakeCopySide(random, shape, dtype);
    Tensor expected = Tensor::CopyOf(actual.storage.view());
    Copy(context, source.ViewOf(source.storage), actual.ViewOf(actual.storage));
    reference::Copy(context, source.ViewOf(source.storage), actual.ViewOf(expected));
    EXPECT_EQ(std::memcmp(actual.storage.view().raw(), expected.view().raw(), expected.bytes()), 0);
  }
}

TEST(Copy, LongRunsGoToAllThreads) {
  Random random(1);
  Context context(3);
  const Tensor source = random.Normal({300'001});
  Tensor destination({300'001}, DType::kF32);
  Copy(context, source.view(), destination);
  EXPECT_EQ(LargestError(destination.view(), source.view()), 0);
}

TEST(Copy, NamesTheArgumentThatDoesNotFit) {
  Context context(1);
  Tensor source({2, 3}, DType::kF32), turned({3, 2}, DType::kF32), halves({2, 3}, DType::kF16);
  EXPECT_EQ(ArgumentErrorOf([&] { Copy(context, source, turned); }),
            "copy: destination: expected shape [2, 3], found [3, 2]");
  EXPECT_EQ(ArgumentErrorOf([&] { Copy(context, source, halves); }),
            "copy: destination: expected f32, found f16");
  EXPECT_EQ(ArgumentErrorOf([&] { Copy(context, {}, source); }),
            "copy: source: expected shape [], found no tensor");
}

TEST(Copy, NamesBothDevicesOfMemoryElsewhere) {
  Context host(1);
  Context planned = Context::Planning({{DeviceType::kCuda, 1}, DType::kBF16});
  Tensor here({2}, DType::kF32);
  const TensorView there = TensorView::WithoutMemory({2}, DType::kF32, {DeviceType::kCuda, 0});
  EXPECT_EQ(ArgumentErrorOf([&] { Copy(host, there, here); }),
            "copy: source: expected memory of cpu, found memory of cuda:0");
  EXPECT_EQ(ArgumentErrorOf([&] { Copy(planned, there, there); }),
            "copy: source: expected memory of cuda:1, found memory of cuda:0");
  EXPECT_EQ(ArgumentErrorOf([&] { Copy(planned, here, there); }),
            "copy: source: expected memory of cuda:1, found memory of cpu");
}

TEST(CopyValues, WritesAsManyAsItIsGiven) {
  Context context(1);
  Tensor to({3}, DType::kF32);
  const float values[] = {1, -2, 3};
  CopyValues(context, values, to);
  EXPECT_TRUE(std::ranges::equal(values, std::span(to.data<float>(), 3)));
  const std::vector<float> many(kMostValues + 1);
  EXPECT_EQ(ArgumentErrorOf([&] { CopyValues(context, many, to); }),
            "copy values: values: expected at most 512, found 513");
  EXPECT_EQ(ArgumentErrorOf([&] {
              CopyValues(context, {values, 2}, to);
            }),
            "copy values: destination: expected shape [2], found [3]");
}

TEST(Copy, PlansWithoutMemory) {
  for (const Placement& placement :
       {Placement{}, Placement{{DeviceType::kCuda, 0}, DType::kBF16}}) {
    Context context = Context::Planning(placement);
    const TensorView view = context.workspace().Allocate({4, 5}, DType::kF32);
    Copy(context, view, context.workspace().Allocate({4, 5}, DType::kF32));
    EXPECT_GT(context.workspace().peak_bytes(), 0u);
  }
}

}  // namespace
}  // namespace tamias
