#include "ops/copy_indices.h"

#include <numeric>

#include "tamias/error.h"
#include "tests/support/device_operand.h"

namespace tamias {
namespace {

class CudaCopyIndices : public CudaTest {};

TEST_F(CudaCopyIndices, MatchesReferenceOverRandomShapes) {
  cuda::Stream stream;
  Context context(1);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const int64_t rows = random.Integer(1, 6), n = random.Integer(1, seed % 4 == 0 ? 4000 : 300);
    const int64_t capacity = random.Integer(0, n);
    const DType dtype = RandomFloatType(random);
    const DeviceOperand source = MakeOperand(stream, random, {rows, n}, dtype);
    const DeviceOperand destination = MakeOperand(stream, random, {rows, n}, dtype);
    Tensor indices = Tensor::Zeros({rows, capacity}, DType::kI32), counts({rows}, DType::kI32);
    std::vector<int32_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    for (int64_t r = 0; r < rows; ++r) {
      std::shuffle(order.begin(), order.end(), random.generator());
      std::copy_n(order.begin(), capacity, indices.data<int32_t>() + r * capacity);
      counts.data<int32_t>()[r] = static_cast<int32_t>(random.Integer(0, capacity));
    }
    reference::CopyIndices(context, source.host, indices.view(), counts.view(), destination.host);
    cuda::CopyIndices(stream, source.device, ToDevice(stream, indices).view(),
                      ToDevice(stream, counts).view(), destination.device);
    EXPECT_EQ(destination.Error(stream), 0.0f);
  }
}

TEST_F(CudaCopyIndices, RefusesDifferentTypes) {
  Context device(kPlacement, 1);
  cuda::Stream& stream = device.stream();
  const Tensor source = ToDevice(stream, Tensor::Zeros({2, 16}, DType::kF32));
  Tensor destination = ToDevice(stream, Tensor::Zeros({2, 16}, DType::kF16));
  const Tensor indices = ToDevice(stream, Tensor::Zeros({2, 3}, DType::kI32));
  const Tensor counts = ToDevice(stream, Tensor::Zeros({2}, DType::kI32));
  EXPECT_THROW(CopyIndices(device, source.view(), indices.view(), counts.view(), destination),
               Error);
}

}  // namespace
}  // namespace tamias
