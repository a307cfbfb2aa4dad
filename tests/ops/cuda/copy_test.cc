#include "ops/copy.h"

#include <algorithm>
#include <vector>

#include "ops/copy_values.h"
#include "tamias/device_memory.h"
#include "tests/support/copy_case.h"
#include "tests/support/device_operand.h"
#include "tests/support/kernel_families.h"

namespace tamias {
namespace {

class CudaCopy : public KernelFamilyTest {};
INSTANTIATE_TEST_SUITE_P(Kernels, CudaCopy, ::testing::ValuesIn(KernelFamiliesHere()),
                         NameOfFamily);

TEST_P(CudaCopy, MatchesReferenceOverRandomShapes) {
  Context host(1), device(kPlacement, 1);
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const Shape shape = RandomCopyShape(random);
    const DType dtype = kCopyTypes[seed % 6];
    CopySide source = MakeCopySide(random, shape, dtype);
    CopySide expected = MakeCopySide(random, shape, dtype);
    Tensor from = ToDevice(device.stream(), source.storage.view());
    Tensor to = ToDevice(device.stream(), expected.storage.view());
    Copy(device, source.ViewOf(from), expected.ViewOf(to));
    reference::Copy(host, source.ViewOf(source.storage), expected.ViewOf(expected.storage));
    EXPECT_TRUE(SameBytes(ToHost(device.stream(), to.view()), expected.storage));
  }
}

class CudaCopyValues : public CudaTest {};

TEST_F(CudaCopyValues, AreReadBeforeItReturns) {
  Context device(kPlacement, 1);
  std::vector<float> values(kMostValues);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) - 7.5f;
  Tensor to = TensorOn(device, {kMostValues}, DType::kF32);
  CopyValues(device, values, to);
  std::ranges::fill(values, 0.0f);
  const Tensor found = CopyToHost(device, to);
  for (int64_t i = 0; i < kMostValues; ++i) {
    EXPECT_EQ(found.data<float>()[i], static_cast<float>(i) - 7.5f);
  }
  EXPECT_NO_THROW(CopyValues(device, {}, to.view().Slice(0, 0, 0)));
}

}  // namespace
}  // namespace tamias
