#include "ops/norm.h"

#include "tamias/error.h"
#include "tests/support/device_operand.h"

namespace tamias {
namespace {

constexpr float kEpsilon = 1e-6f;

class CudaNorm : public CudaTest {};

// A vector of weights, or none.
DeviceOperand RandomWeight(cuda::Stream& stream, Random& random, int64_t size) {
  if (random.Coin()) return {};
  return MakeOperand(stream, random, {size}, RandomFloatType(random));
}

// Values whose mean is far from zero, so that an uncentred variance would show.
DeviceOperand RandomRows(cuda::Stream& stream, Random& random, const Shape& shape) {
  return MakeOperand(stream, random, shape, RandomFloatType(random), 1, 3 * random.Normal());
}

Shape RandomShape(Random& random) {
  const int64_t columns = 8 * random.Integer(1, random.Coin() ? 20 : 200);
  return {random.Integer(1, 3), random.Integer(1, 20), columns};
}

// 8 values close together have a small deviation: what the sums lose is multiplied by 1 /
// deviation.
float Tolerance(const DeviceOperand& output) { return Tolerance(output.device.dtype()) + 1e-4f; }

TEST_F(CudaNorm, LayerNormMatchesReference) {
  cuda::Stream stream;
  Context context(1);
  for (uint64_t seed = 0; seed < 25; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const Shape shape = RandomShape(random);
    const DeviceOperand weight = RandomWeight(stream, random, shape[2]);
    const DeviceOperand bias = RandomWeight(stream, random, shape[2]);
    const DeviceOperand input = RandomRows(stream, random, shape);
    const DeviceOperand output = RandomRows(stream, random, shape);
    cuda::LayerNorm(stream, input.device, weight.device, bias.device, kEpsilon, output.device);
    reference::LayerNorm(context, input.host, weight.host, bias.host, kEpsilon, output.host);
    EXPECT_LT(output.Error(stream), Tolerance(output));
  }
}

TEST_F(CudaNorm, LayerNormModulateMatchesReferenceInPlace) {
  cuda::Stream stream;
  Context context(1);
  for (uint64_t seed = 0; seed < 25; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const Shape shape = RandomShape(random);
    const Shape per_item = {shape[0], shape[2]};
    const DeviceOperand shift = MakeOperand(stream, random, per_item, RandomFloatType(random));
    const DeviceOperand scale = MakeOperand(stream, random, per_item, RandomFloatType(random));
    const DeviceOperand values = RandomRows(stream, random, shape);
    cuda::LayerNormModulate(stream, values.device, shift.device, scale.device, kEpsilon,
                            values.device);
    reference::LayerNormModulate(context, values.host, shift.host, scale.host, kEpsilon,
                                 values.host);
    EXPECT_LT(values.Error(stream), Tolerance(values));
  }
}

TEST_F(CudaNorm, RmsNormMatchesReferenceForAnyNumberOfAxes) {
  cuda::Stream stream;
  Context context(1);
  for (uint64_t seed = 0; seed < 25; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Shape shape;
    const int64_t axes = random.Integer(0, 4);
    for (int64_t axis = 0; axis < axes; ++axis) shape.Append(random.Integer(1, 4));
    shape.Append(8 * random.Integer(1, 60));
    const DeviceOperand weight = RandomWeight(stream, random, shape[shape.rank() - 1]);
    const DeviceOperand input = RandomRows(stream, random, shape);
    const DeviceOperand output = RandomRows(stream, random, shape);
    cuda::RmsNorm(stream, input.device, weight.device, kEpsilon, output.device);
    reference::RmsNorm(context, input.host, weight.host, kEpsilon, output.host);
    EXPECT_LT(output.Error(stream), Tolerance(output));
  }
}

// A picture may fill several chunks of the device's sums.
TEST_F(CudaNorm, GroupNormMatchesReference) {
  cuda::Stream stream;
  Context context(1);
  for (uint64_t seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const int64_t groups = random.Integer(1, 6), width = random.Integer(1, 5);
    const int64_t channels = 8 * groups * width;
    const bool is_large = seed % 4 == 0;
    const Shape shape = {random.Integer(1, 2), is_large ? 53 : random.Integer(1, 5),
                         is_large ? 41 : random.Integer(1, 9), channels};
    const DeviceOperand weight = RandomWeight(stream, random, channels);
    const DeviceOperand bias = RandomWeight(stream, random, channels);
    const DeviceOperand input = MakeOperand(stream, random, shape, RandomFloatType(random), 1,
                                            3 * random.Normal(), Layout::kContiguous);
    const auto coefficients = [&] {
      return MakeOperand(stream, random, {shape[0], channels}, DType::kF32, 1, 0,
                         Layout::kContiguous);
    };
    const DeviceOperand gain = coefficients(), offset = coefficients();
    Tensor scratch = cuda::DeviceTensor(
        {static_cast<int64_t>(cuda::GroupNormStatisticsScratchBytes(shape, groups))}, DType::kU8,
        stream.device().index);
    cuda::GroupNormStatistics(stream, input.device, groups, weight.device, bias.device, kEpsilon,
                              scratch, gain.device, offset.device);
    reference::GroupNormStatistics(context, input.host, groups, weight.host, bias.host, kEpsilon,
                                   gain.host, offset.host);
    EXPECT_LT(gain.Error(stream), 1e-5f);
    EXPECT_LT(offset.Error(stream), 1e-5f);
  }
}

TEST_F(CudaNorm, ScaleShiftChannelsMatchesReference) {
  cuda::Stream stream;
  Context context(1);
  for (uint64_t seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const Shape shape = {random.Integer(1, 2), random.Integer(1, 9), random.Integer(1, 9),
                         8 * random.Integer(1, random.Coin() ? 4 : 40)};
    const auto coefficients = [&] {
      return MakeOperand(stream, random, {shape[0], shape[3]}, DType::kF32, 1, 0,
                         Layout::kContiguous);
    };
    const DeviceOperand gain = coefficients(), offset = coefficients();
    const DeviceOperand input = MakeOperand(stream, random, shape, RandomFloatType(random));
    const DeviceOperand output = MakeOperand(stream, random, shape, RandomFloatType(random));
    const bool silu = random.Coin();
    cuda::ScaleShiftChannels(stream, input.device, gain.device, offset.device, silu, output.device);
    reference::ScaleShiftChannels(context, input.host, gain.host, offset.host, silu, output.host);
    EXPECT_LT(output.Error(stream), Tolerance(output.device.dtype()));
  }
}

TEST_F(CudaNorm, GroupNormRefusesChannelsThatItsThreadsCannotHold) {
  cuda::Stream stream;
  for (const int64_t channels : {12, 4096}) {
    Tensor x = ToDevice(stream, Tensor::Zeros({1, 1, 2, channels}, DType::kF32).view());
    Tensor gain = ToDevice(stream, Tensor::Zeros({1, channels}, DType::kF32).view());
    EXPECT_THROW(cuda::ScaleShiftChannels(stream, x.view(), gain.view(), gain.view(), false, x),
                 Error);
  }
}

TEST_F(CudaNorm, RefusesRowsThatVectorsCannotServe) {
  Context device(kPlacement, 1);
  cuda::Stream& stream = device.stream();
  Tensor x = ToDevice(stream, Tensor::Zeros({3, 20}, DType::kF16).view());
  Tensor fits = ToDevice(stream, Tensor::Zeros({3, 24}, DType::kF16).view());
  EXPECT_THROW(cuda::RmsNorm(stream, x.view(), {}, kEpsilon, x), Error);
  EXPECT_THROW(
      cuda::RmsNorm(stream, x.view().Slice(1, 0, 8), {}, kEpsilon, x.view().Slice(1, 0, 8)), Error);
  EXPECT_THROW(LayerNorm(device, fits.view(), x.view(), {}, kEpsilon, fits), Error);
  EXPECT_THROW(LayerNormModulate(device, fits.view(), {}, {}, kEpsilon, fits), Error);
  EXPECT_NO_THROW(cuda::RmsNorm(stream, fits.view(), {}, kEpsilon, fits));
}

}  // namespace
}  // namespace tamias
