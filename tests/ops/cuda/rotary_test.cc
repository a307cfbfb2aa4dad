#include "ops/rotary.h"

#include "tamias/error.h"
#include "tests/support/device_operand.h"

namespace tamias {
namespace {

class CudaRmsNormRotary : public CudaTest {};

TEST_F(CudaRmsNormRotary, MatchesReferenceWithAndWithoutNormAndRotation) {
  cuda::Stream stream;
  Context context(1);
  for (uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const int64_t heads = random.Integer(1, 4), tokens = random.Integer(1, 40);
    const int64_t dims[] = {64, 128, 8 * random.Integer(1, 32)};
    const int64_t dim = dims[random.Integer(0, 2)], batch = random.Integer(1, 2);
    const DType output_type = RandomFloatType(random);
    // Queries of a fused projection [B, N, 3, H, D].
    const DeviceOperand projection =
        MakeOperand(stream, random, {batch, tokens, 3, heads, dim}, RandomFloatType(random));
    const int64_t part = random.Integer(0, 2);
    const auto queries = [&](const TensorView& view) {
      return view.Select(2, part).Permute({0, 2, 1, 3});
    };
    const DeviceOperand weight = MakeOperand(stream, random, {dim}, RandomFloatType(random));
    const Shape angles = random.Coin() ? Shape{heads, tokens, dim} : Shape{tokens, dim};
    const DType angle_type = RandomFloatType(random);
    const DeviceOperand cosine = MakeOperand(stream, random, angles, angle_type);
    const DeviceOperand sine = MakeOperand(stream, random, angles, angle_type);
    const DeviceOperand output =
        MakeOperand(stream, random, {batch, heads, tokens, dim}, output_type);
    const bool norm = random.Coin(), rotate = random.Coin();
    const TensorView none;
    cuda::RmsNormRotary(stream, queries(projection.device), norm ? weight.device : none, 1e-6f,
                        rotate ? cosine.device : none, rotate ? sine.device : none, output.device);
    reference::RmsNormRotary(context, queries(projection.host), norm ? weight.host : none, 1e-6f,
                             rotate ? cosine.host : none, rotate ? sine.host : none, output.host);
    EXPECT_LT(output.Error(stream), Tolerance(output_type));
  }
}

TEST_F(CudaRmsNormRotary, WorksInPlace) {
  cuda::Stream stream;
  Context context(1);
  Random random(5);
  const DeviceOperand x = MakeOperand(stream, random, {1, 2, 70, 24}, DType::kBF16);
  const DeviceOperand weight = MakeOperand(stream, random, {24}, DType::kBF16);
  const DeviceOperand angles = MakeOperand(stream, random, {70, 24}, DType::kF32);
  cuda::RmsNormRotary(stream, x.device, weight.device, 1e-6f, angles.device, angles.device,
                      x.device);
  reference::RmsNormRotary(context, x.host, weight.host, 1e-6f, angles.host, angles.host, x.host);
  EXPECT_LT(x.Error(stream), Tolerance(DType::kBF16));
}

TEST_F(CudaRmsNormRotary, RefusesWhatDoesNotFit) {
  Context device(kPlacement, 1);
  cuda::Stream& stream = device.stream();
  const auto zeros = [&](const Shape& shape) {
    return ToDevice(stream, Tensor::Zeros(shape, DType::kBF16).view());
  };
  Tensor x = zeros({1, 2, 5, 8}), odd = zeros({1, 2, 5, 12}), large = zeros({1, 2, 5, 264});
  const Tensor angles = zeros({5, 8}), of_three = zeros({3, 5, 8});
  EXPECT_THROW(cuda::RmsNormRotary(stream, odd.view(), {}, 1e-6f, {}, {}, odd), Error);
  EXPECT_THROW(cuda::RmsNormRotary(stream, large.view(), {}, 1e-6f, {}, {}, large), Error);
  EXPECT_THROW(RmsNormRotary(device, x.view(), {}, 1e-6f, angles.view(), {}, x), Error);
  EXPECT_THROW(RmsNormRotary(device, x.view(), {}, 1e-6f, of_three.view(), of_three.view(), x),
               Error);
}

}  // namespace
}  // namespace tamias
