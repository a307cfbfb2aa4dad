#include "ops/rotary.h"

#include <vector>

#include "tamias/error.h"
#include "tests/support/device_operand.h"

namespace tamias {
namespace {

class CudaRmsNormRotary : public CudaTest {};

void OnDevice(cuda::Stream& stream, ConstTensorView input, ConstTensorView norm_weight,
              ConstTensorView cosine, ConstTensorView sine, TensorView output) {
  const HeadRows part{input, norm_weight, cosine, sine, output};
  cuda::RmsNormRotary(stream, {&part, 1}, 1e-6f);
}

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
    OnDevice(stream, queries(projection.device), norm ? weight.device : none,
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
  OnDevice(stream, x.device, weight.device, angles.device, angles.device, x.device);
  reference::RmsNormRotary(context, x.host, weight.host, 1e-6f, angles.host, angles.host, x.host);
  EXPECT_LT(x.Error(stream), Tolerance(DType::kBF16));
}

// Query and key of text and image, say: of different lengths, norms and angles, some of them empty.
TEST_F(CudaRmsNormRotary, TakesAnyNumberOfTensorsAtOnce) {
  cuda::Stream stream;
  Context context(1);
  for (const size_t count : {0u, 1u, 4u, 8u, 9u, 19u}) {
    SCOPED_TRACE(count);
    Random random(count);
    const int64_t dim = random.Coin() ? 64 : 24;
    std::vector<DeviceOperand> inputs, weights, angles, outputs;
    std::vector<HeadRows> on_device, on_host;
    for (size_t i = 0; i < count; ++i) {
      const int64_t heads = random.Integer(1, 9), tokens = random.Integer(0, 50);
      const Shape shape = {random.Integer(1, 2), heads, tokens, dim};
      inputs.push_back(MakeOperand(stream, random, shape, RandomFloatType(random)));
      weights.push_back(MakeOperand(stream, random, {dim}, RandomFloatType(random)));
      angles.push_back(MakeOperand(stream, random, {tokens, dim}, RandomFloatType(random)));
      outputs.push_back(MakeOperand(stream, random, shape, DType::kBF16));
      const bool norm = random.Coin(), rotate = random.Coin();
      const auto part = [&](auto view_of) {
        const TensorView none, cosine = rotate ? view_of(angles[i]) : none;
        return HeadRows{view_of(inputs[i]), norm ? view_of(weights[i]) : none, cosine, cosine,
                        view_of(outputs[i])};
      };
      on_device.push_back(part([](const DeviceOperand& o) { return o.device; }));
      on_host.push_back(part([](const DeviceOperand& o) { return o.host; }));
    }
    cuda::RmsNormRotary(stream, on_device, 1e-6f);
    for (size_t i = 0; i < count; ++i) {
      const HeadRows& part = on_host[i];
      reference::RmsNormRotary(context, part.input, part.norm_weight, 1e-6f, part.cosine, part.sine,
                               part.output);
      EXPECT_LT(outputs[i].Error(stream), Tolerance(DType::kBF16)) << i;
    }
  }
}

TEST_F(CudaRmsNormRotary, RefusesWhatDoesNotFit) {
  Context device(kPlacement, 1);
  cuda::Stream& stream = device.stream();
  const auto zeros = [&](const Shape& shape) {
    return ToDevice(stream, Tensor::Zeros(shape, DType::kBF16).view());
  };
  Tensor x = zeros({1, 2, 5, 8}), odd = zeros({1, 2, 5, 12}), large = zeros({1, 2, 5, 264});
  const Tensor angles = zeros({5, 8}), of_three = zeros({3, 5, 8});
  EXPECT_THROW(OnDevice(stream, odd.view(), {}, {}, {}, odd), Error);
  EXPECT_THROW(OnDevice(stream, large.view(), {}, {}, {}, large), Error);
  EXPECT_THROW(RmsNormRotary(device, x.view(), {}, 1e-6f, angles.view(), {}, x), Error);
  EXPECT_THROW(RmsNormRotary(device, x.view(), {}, 1e-6f, of_three.view(), of_three.view(), x),
               Error);
}

}  // namespace
}  // namespace tamias
