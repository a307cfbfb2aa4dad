#include "ops/distance.h"

#include "tests/support/device_operand.h"

namespace tamias {
namespace {

class CudaDistance : public CudaTest {};

TEST_F(CudaDistance, MatchesReferenceOverRandomShapes) {
  Context host(1), device(Placement{{DeviceType::kCuda, 0}, DType::kBF16}, 1);
  for (uint64_t seed = 0; seed < 8; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const Shape shape = {random.Integer(1, 3), random.Integer(1, 100), 8 * random.Integer(1, 40)};
    const DeviceOperand a = MakeOperand(device.stream(), random, shape, RandomFloatType(random));
    const DeviceOperand b = MakeOperand(device.stream(), random, shape, RandomFloatType(random));
    const Distance actual = MeasureDistance(device, a.device, b.device);
    const Distance expected = reference::MeasureDistance(host, a.host, b.host);
    // Sums of up to some thousand terms a thread, in fp32.
    EXPECT_NEAR(actual.absolute / expected.absolute, 1, 1e-5);
    EXPECT_NEAR(actual.absolute_reference / expected.absolute_reference, 1, 1e-5);
    EXPECT_NEAR(actual.squared / expected.squared, 1, 1e-5);
    EXPECT_NEAR(actual.squared_reference / expected.squared_reference, 1, 1e-5);
  }
}

}  // namespace
}  // namespace tamias
