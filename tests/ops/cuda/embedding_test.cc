#include "ops/embedding.h"

#include "tamias/error.h"
#include "tests/support/device_operand.h"

namespace tamias {
namespace {

class CudaEmbedding : public CudaTest {};

TEST_F(CudaEmbedding, MatchesReferenceOverRandomShapes) {
  cuda::Stream stream;
  Context context(1);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const int64_t entries = random.Integer(1, 30), columns = 8 * random.Integer(1, 200);
    Tensor ids({random.Integer(1, 3), random.Integer(1, 9)}, DType::kI32);
    for (int64_t i = 0; i < ids.NumElements(); ++i) {
      ids.data<int32_t>()[i] = static_cast<int32_t>(random.Integer(0, entries - 1));
    }
    const DeviceOperand table =
        MakeOperand(stream, random, {entries, columns}, RandomFloatType(random));
    const DeviceOperand output = MakeOperand(stream, random, {ids.dim(0), ids.dim(1), columns},
                                             RandomFloatType(random), 1, 0, Layout::kContiguous);
    cuda::Embedding(stream, table.device, ToDevice(stream, ids.view()), output.device);
    reference::Embedding(context, table.host, ids, output.host);
    EXPECT_LT(output.Error(stream), Tolerance(output.device.dtype()));
  }
}

TEST_F(CudaEmbedding, IdsOutOfRangeGiveZeros) {
  cuda::Stream stream;
  Random random(1);
  const Tensor table = ToDevice(stream, random.Normal({3, 8}).view());
  Tensor ids({3}, DType::kI32);
  for (int i = 0; i < 3; ++i) ids.data<int32_t>()[i] = std::array{-1, 3, INT32_MAX}[i];
  Tensor output = cuda::DeviceTensor({3, 8}, DType::kF32, stream.device().index);
  cuda::Embedding(stream, table.view(), ToDevice(stream, ids.view()), output);
  EXPECT_EQ(
      LargestError(ToHost(stream, output.view()).view(), Tensor::Zeros({3, 8}, DType::kF32).view()),
      0);
}

}  // namespace
}  // namespace tamias
