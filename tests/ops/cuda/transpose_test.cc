#include "ops/transpose.h"

#include "tamias/error.h"
#include "tests/support/device_operand.h"

namespace tamias {
namespace {

class CudaTranspose : public CudaTest {};

TEST_F(CudaTranspose, MatchesReferenceOverRandomShapes) {
  cuda::Stream stream;
  Context context(1);
  for (uint64_t seed = 0; seed < 15; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const Shape shape = {random.Integer(1, 100), random.Integer(1, 100)};
    const DeviceOperand input = MakeOperand(stream, random, shape, RandomFloatType(random));
    const DeviceOperand output = MakeOperand(stream, random, {shape[1], shape[0]},
                                             RandomFloatType(random), 1, 0, Layout::kContiguous);
    cuda::Transpose(stream, input.device, output.device);
    reference::Transpose(context, input.host, output.host);
    EXPECT_LT(output.Error(stream), Tolerance(output.device.dtype()));
  }
}

TEST_F(CudaTranspose, RefusesWrongShapes) {
  Context device(kPlacement, 1);
  Tensor square = ToDevice(device.stream(), Tensor::Zeros({3, 8}, DType::kF32).view());
  EXPECT_THROW(Transpose(device, square.view(), square), Error);
}

}  // namespace
}  // namespace tamias
