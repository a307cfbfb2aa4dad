#include "ops/residual.h"

#include "tamias/error.h"
#include "tests/support/device_operand.h"

namespace tamias {
namespace {

class CudaGatedResidual : public CudaTest {};

TEST_F(CudaGatedResidual, MatchesReferenceOverRandomShapes) {
  cuda::Stream stream;
  Context context(1);
  for (uint64_t seed = 0; seed < 25; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const int64_t columns = 8 * random.Integer(1, random.Coin() ? 20 : 200);
    const Shape shape = {random.Integer(1, 3), random.Integer(1, 20), columns};
    const DeviceOperand x = MakeOperand(stream, random, shape, RandomFloatType(random));
    const DeviceOperand y = MakeOperand(stream, random, shape, RandomFloatType(random));
    const DeviceOperand gate =
        MakeOperand(stream, random, {shape[0], columns}, RandomFloatType(random));
    cuda::GatedResidual(stream, x.device, gate.device, y.device);
    reference::GatedResidual(context, x.host, gate.host, y.host);
    EXPECT_LT(x.Error(stream), Tolerance(x.device.dtype()));
  }
}

TEST_F(CudaGatedResidual, RefusesWrongShapes) {
  Context device(kPlacement, 1);
  cuda::Stream& stream = device.stream();
  Tensor x = ToDevice(stream, Tensor::Zeros({2, 3, 16}, DType::kF32).view());
  const Tensor gate = ToDevice(stream, Tensor::Zeros({3, 16}, DType::kF32).view());
  EXPECT_THROW(GatedResidual(device, x, gate.view(), x.view()), Error);
}

}  // namespace
}  // namespace tamias
