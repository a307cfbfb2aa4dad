#include "ops/elementwise.h"

#include <gmock/gmock.h>

#include "ops/activation.h"
#include "tamias/error.h"
#include "tests/support/device_operand.h"

namespace tamias {
namespace {

class CudaElementwise : public CudaTest {
 protected:
  // body(seed's random numbers, operands of one random shape) for 24 seeds.
  template <typename Body>
  void ForRandomShapes(const Body& body) {
    cuda::Stream stream;
    for (uint64_t seed = 0; seed < 24; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed);
      Shape shape;
      const int64_t axes = random.Integer(0, 3);
      for (int64_t axis = 0; axis < axes; ++axis) shape.Append(random.Integer(1, 6));
      shape.Append(random.Integer(1, random.Coin() ? 40 : 3000));
      const bool is_contiguous = random.Coin();  // then rows may begin anywhere
      const auto operand = [&] {
        if (is_contiguous) {
          return MakeOperand(stream, random, shape, RandomFloatType(random), 1, 0,
                             Layout::kContiguous);
        }
        // Rows of any length must begin at vectors: strides, not shapes, are whole vectors.
        Shape padded = shape;
        padded[shape.rank() - 1] = (shape[shape.rank() - 1] + 7) / 8 * 8;
        DeviceOperand result = MakeOperand(stream, random, padded, RandomFloatType(random));
        const int last = shape.rank() - 1;
        result.host = result.host.Slice(last, 0, shape[last]);
        result.device = result.device.Slice(last, 0, shape[last]);
        return result;
      };
      const DeviceOperand a = operand(), b = operand(), output = operand();
      body(stream, random, a, b, output);
      EXPECT_LT(output.Error(stream), Tolerance(output.device.dtype()));
    }
  }

  Context context_{1};
};

TEST_F(CudaElementwise, AddMatchesReference) {
  ForRandomShapes(
      [&](cuda::Stream& stream, Random&, const auto& a, const auto& b, const auto& output) {
        cuda::Add(stream, a.device, b.device, output.device);
        reference::Add(context_, a.host, b.host, output.host);
      });
}

TEST_F(CudaElementwise, MultiplyMatchesReference) {
  ForRandomShapes(
      [&](cuda::Stream& stream, Random&, const auto& a, const auto& b, const auto& output) {
        cuda::Multiply(stream, a.device, b.device, output.device);
        reference::Multiply(context_, a.host, b.host, output.host);
      });
}

TEST_F(CudaElementwise, AbsoluteDifferenceMatchesReference) {
  ForRandomShapes(
      [&](cuda::Stream& stream, Random&, const auto& a, const auto& b, const auto& output) {
        cuda::AbsoluteDifference(stream, a.device, b.device, output.device);
        reference::AbsoluteDifference(context_, a.host, b.host, output.host);
      });
}

TEST_F(CudaElementwise, AxpyMatchesReference) {
  ForRandomShapes(
      [&](cuda::Stream& stream, Random& random, const auto& a, const auto&, const auto& output) {
        const float factor = random.Normal();
        cuda::Axpy(stream, factor, a.device, output.device);
        reference::Axpy(context_, factor, a.host, output.host);
      });
}

TEST_F(CudaElementwise, ScaleShiftMatchesReference) {
  ForRandomShapes(
      [&](cuda::Stream& stream, Random& random, const auto& a, const auto&, const auto& output) {
        const float factor = random.Normal(), offset = random.Normal();
        cuda::ScaleShift(stream, a.device, factor, offset, output.device);
        reference::ScaleShift(context_, a.host, factor, offset, output.host);
      });
}

TEST_F(CudaElementwise, ConvertMatchesReference) {
  ForRandomShapes(
      [&](cuda::Stream& stream, Random&, const auto& a, const auto&, const auto& output) {
        cuda::Convert(stream, a.device, output.device);
        reference::Convert(context_, a.host, output.host);
      });
}

TEST_F(CudaElementwise, ActivationsMatchReference) {
  constexpr Activation kActivations[] = {
      Activation::kNone, Activation::kRelu,      Activation::kGeluTanh, Activation::kGeluErf,
      Activation::kSilu, Activation::kQuickGelu, Activation::kTanh};
  ForRandomShapes(
      [&](cuda::Stream& stream, Random& random, const auto&, const auto&, const auto& output) {
        const Activation activation = kActivations[random.Integer(0, 6)];
        cuda::ScaleShift(stream, output.device, 4, 0, output.device);
        reference::ScaleShift(context_, output.host, 4, 0, output.host);  // exact: a power of two
        cuda::Activate(stream, activation, output.device);
        reference::Activate(context_, activation, output.host);
      });
}

TEST_F(CudaElementwise, ActivationsHoldAtTheEnds) {
  cuda::Stream stream;
  for (const Activation activation :
       {Activation::kGeluTanh, Activation::kGeluErf, Activation::kSilu, Activation::kQuickGelu}) {
    Tensor host({3}, DType::kF32);
    host.data<float>()[0] = -1e4f;
    host.data<float>()[1] = 1e4f;
    host.data<float>()[2] = NAN;
    Tensor device = ToDevice(stream, host.view());
    cuda::Activate(stream, activation, device);
    const Tensor result = ToHost(stream, device.view());
    EXPECT_EQ(result.data<float>()[0], 0.0f);
    EXPECT_EQ(result.data<float>()[1], 1e4f);
    EXPECT_TRUE(std::isnan(result.data<float>()[2]));
  }
}

TEST_F(CudaElementwise, ErrorsNameTheArgument) {
  Context device(kPlacement, 1);
  cuda::Stream& stream = device.stream();
  Tensor x = ToDevice(stream, Tensor::Zeros({2, 20}, DType::kF16).view());
  Tensor y = ToDevice(stream, Tensor::Zeros({2, 16}, DType::kF16).view());
  const auto message = [&](const TensorView& a, const TensorView& b, const TensorView& output) {
    return ErrorOf([&] { Add(device, a, b, output); });
  };
  using ::testing::HasSubstr;
  EXPECT_THAT(message(x, y, x), HasSubstr("add: b: expected shape [2, 20]"));
  EXPECT_THAT(message(y, {}, y), HasSubstr("add: b: expected shape"));
  EXPECT_THAT(message(x.view().Slice(1, 0, 16), y, y),
              HasSubstr("add: first operand: expected strides of whole 16-byte vectors"));
}

}  // namespace
}  // namespace tamias
