#include "ops/block_mean.h"

#include "tamias/error.h"
#include "tests/support/device_operand.h"

namespace tamias {
namespace {

class CudaBlockMean : public CudaTest {};

TEST_F(CudaBlockMean, MatchesReferenceOverRandomShapes) {
  cuda::Stream stream;
  Context context(1);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const int64_t batch = random.Integer(1, 2), tokens = random.Integer(1, 300);
    const int64_t group_size = random.Coin() ? 128 : random.Integer(1, 200);
    const int64_t columns = 8 * random.Integer(1, 50);
    const Shape means = {batch, (tokens + group_size - 1) / group_size, columns};
    const DType output_type = RandomFloatType(random);
    const DeviceOperand input =
        MakeOperand(stream, random, {batch, tokens, columns}, RandomFloatType(random), 1, 3);
    const DeviceOperand output = MakeOperand(stream, random, means, output_type);
    reference::BlockMean(context, input.host, group_size, output.host);
    cuda::BlockMean(stream, input.device, group_size, output.device);
    EXPECT_LT(output.Error(stream), Tolerance(output_type));
  }
}

TEST_F(CudaBlockMean, RefusesRowsThatVectorsCannotServe) {
  Context device(kPlacement, 1);
  cuda::Stream& stream = device.stream();
  const Tensor input = ToDevice(stream, Tensor::Zeros({1, 4, 20}, DType::kBF16));
  Tensor output = ToDevice(stream, Tensor::Zeros({1, 1, 20}, DType::kBF16));
  EXPECT_THROW(cuda::BlockMean(stream, input.view(), 4, output), Error);
  EXPECT_THROW(
      cuda::BlockMean(stream, input.view().Slice(2, 4, 12), 4, output.view().Slice(2, 0, 8)),
      Error);
  EXPECT_THROW(BlockMean(device, input.view(), 0, output), Error);
}

}  // namespace
}  // namespace tamias
