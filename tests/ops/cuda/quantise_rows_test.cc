#include "ops/quantise_rows.h"

#include <cmath>

#include "tests/support/device_operand.h"
#include "tests/support/errors.h"

namespace tamias {
namespace {

class CudaQuantiseRows : public CudaTest {
 protected:
  struct Rows {
    Tensor codes, scales;
  };

  Rows Quantised(ConstTensorView input) {
    const Shape& shape = input.shape();
    Tensor codes = cuda::DeviceTensor(shape, DType::kF8E4M3, 0);
    Tensor scales = cuda::DeviceTensor({shape[0], shape[1]}, DType::kF32, 0);
    QuantiseRows(context_, input, codes, scales);
    return {ToHost(context_.stream(), codes.view()), ToHost(context_.stream(), scales.view())};
  }

  Context context_{kPlacement, 1};
};

TEST_F(CudaQuantiseRows, MatchesReferenceToTheBit) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const Shape shape = {random.Integer(1, 3), random.Integer(1, 20), 8 * random.Integer(1, 70)};
    const float scale = std::ldexp(1.0f, static_cast<int>(random.Integer(-14, 8)));
    const DeviceOperand input =
        MakeOperand(context_.stream(), random, shape, RandomFloatType(random), scale);
    const Rows found = Quantised(input.device);
    Tensor codes(shape, DType::kF8E4M3), scales({shape[0], shape[1]}, DType::kF32);
    reference::QuantiseRows(context_, input.host, codes, scales);
    EXPECT_TRUE(SameBytes(found.scales, scales));
    EXPECT_TRUE(SameBytes(found.codes, codes));
  }
}

TEST_F(CudaQuantiseRows, RowsThatAreNotFiniteHaveNoScale) {
  for (const float value : {INFINITY, -INFINITY, NAN}) {
    Tensor input({1, 2, 8}, DType::kF32);
    std::fill_n(input.data<float>(), 16, 3.0f);
    input.data<float>()[12] = value;
    const Tensor there = ToDevice(context_.stream(), input.view());
    const Rows found = Quantised(there.view());
    EXPECT_TRUE(std::isfinite(found.scales.data<float>()[0]));
    EXPECT_TRUE(std::isnan(found.scales.data<float>()[1]));
    for (int i = 8; i < 16; ++i) EXPECT_EQ(found.codes.data<Float8E4M3>()[i].bits, 0);
  }
}

TEST_F(CudaQuantiseRows, RefusesRowsThatAreNotWholeVectors) {
  const Tensor input = ToDevice(context_.stream(), Tensor::Zeros({1, 2, 12}, DType::kBF16).view());
  EXPECT_EQ(ArgumentErrorOf([&] { Quantised(input.view()); }),
            "quantise rows: input: expected strides of whole 16-byte vectors, found [24, 12, 1] "
            "for shape [1, 2, 12]");
}

}  // namespace
}  // namespace tamias
