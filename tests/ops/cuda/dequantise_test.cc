// Matrices in 8-bit floats on a GPU, widened, and in the operations that multiply with them.
#include "ops/dequantise.h"

#include "ops/column_sparse_mlp.h"
#include "ops/linear.h"
#include "ops/transpose.h"
#include "tests/support/device_operand.h"
#include "tests/support/float8_matrix.h"

namespace tamias {
namespace {

// The same matrix on the device.
struct DeviceFloat8Matrix {
  DeviceFloat8Matrix(cuda::Stream& stream, Float8Matrix matrix)
      : host(std::move(matrix)),
        codes(ToDevice(stream, host.codes.view())),
        scales(ToDevice(stream, host.scales.view())) {}

  ConstTensorView view() const { return codes.view().WithRowScales(scales.data<float>()); }

  Float8Matrix host;
  Tensor codes, scales;
};

class CudaDequantise : public CudaTest {
 protected:
  CudaDequantise() : context_(kPlacement, 1) {}

  Tensor OfDevice(const Shape& shape, DType dtype) const {
    return cuda::DeviceTensor(shape, dtype, 0);
  }
  // What Dequantise gives, in the type of the activations.
  Tensor Widened(ConstTensorView matrix) {
    Tensor output = OfDevice(matrix.shape(), DType::kBF16);
    Dequantise(context_, matrix, output);
    return output;
  }
  Tensor ToHost(const Tensor& tensor) { return tamias::ToHost(context_.stream(), tensor.view()); }

  Context context_;
};

TEST_F(CudaDequantise, GivesEveryCodeTimesItsScale) {
  for (const int64_t width : {256, 255}) {  // in whole vectors and one by one
    Float8Matrix matrix{Tensor({5, width}, DType::kF8E4M3), Tensor({5}, DType::kF32)};
    for (int64_t i = 0; i < 5 * width; ++i) {
      const int64_t bits = (i & 0x7F) == 0x7F ? 0x80 : i % 256;
      matrix.codes.data<Float8E4M3>()[i] = {static_cast<uint8_t>(bits)};
    }
    for (int n = 0; n < 5; ++n) matrix.scales.data<float>()[n] = std::ldexp(1.0f, 4 - 3 * n);
    const DeviceFloat8Matrix there(context_.stream(), std::move(matrix));
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      Tensor output = OfDevice({5, width}, dtype);
      Dequantise(context_, there.view(), output);
      EXPECT_TRUE(SameBytes(ToFloat32(ToHost(output)), there.host.Wide()))
          << Name(dtype) << " " << width;
    }
  }
}

TEST_F(CudaDequantise, TakesSlicesOfAnyWidth) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const int64_t unit = random.Coin() ? 8 : 1;
    const int64_t rows = random.Integer(1, 40), columns = unit * random.Integer(1, 80);
    const int64_t before = unit * random.Integer(0, 4), above = random.Integer(0, 3);
    const DeviceFloat8Matrix matrix(context_.stream(),
                                    RandomFloat8Matrix(random, above + rows, before + columns));
    const auto slice = [&](const ConstTensorView& view) {
      return view.Slice(1, before, before + columns).Slice(0, above, above + rows);
    };
    const Tensor found = Widened(slice(matrix.view()));
    EXPECT_TRUE(
        SameBytes(ToFloat32(ToHost(found)), Tensor::CopyOf(slice(matrix.host.Wide().view()))));
  }
}

// To the bit, by the kernel of few rows (whole vectors) and by products of widened weights.
TEST_F(CudaDequantise, LinearIsThatOfTheWidenedWeights) {
  for (uint64_t seed = 0; seed < 16; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const int64_t rows = random.Coin() ? random.Integer(1, 4) : random.Integer(5, 90);
    const int64_t inputs = 16 * random.Integer(1, 30), outputs = 8 * random.Integer(1, 20);
    const int64_t before = random.Coin() ? 16 : 0;
    const DeviceFloat8Matrix matrix(context_.stream(),
                                    RandomFloat8Matrix(random, outputs, before + inputs, 0.2f));
    const ConstTensorView weight = matrix.view().Slice(1, before, before + inputs);
    const Tensor input =
        ToDevice(context_.stream(), random.Normal({rows, inputs}, 1, DType::kBF16).view());
    const Tensor bias = ToDevice(context_.stream(), random.Normal({outputs}).view());
    const Tensor widened = Widened(weight);
    Tensor actual = OfDevice({rows, outputs}, DType::kF32);
    Tensor expected = OfDevice({rows, outputs}, DType::kF32);
    Linear(context_, input, weight, bias, actual);
    Linear(context_, input, widened, bias, expected);
    EXPECT_TRUE(SameBytes(ToHost(actual), ToHost(expected)));
  }
}

TEST_F(CudaDequantise, FewRowsReadTheCodes) {
  const auto workspace_of = [](int64_t rows, int64_t inputs) {
    Context planning = Context::Planning(kPlacement, 1);
    const auto of = [&](const Shape& shape, DType dtype) {
      return TensorView::WithoutMemory(shape, dtype, planning.device());
    };
    const ConstTensorView weight =
        of({32, inputs}, DType::kF8E4M3).WithRowScales(of({32}, DType::kF32).data<float>());
    Linear(planning, of({rows, inputs}, DType::kBF16), weight, {}, of({rows, 32}, DType::kF32));
    return planning.workspace().peak_bytes();
  };
  EXPECT_EQ(workspace_of(cuda::kFewRows, 64), 0);
  EXPECT_GE(workspace_of(cuda::kFewRows + 1, 64), size_t{32 * 64 * 2});
}

TEST_F(CudaDequantise, TransposedTheyAreTheWidenedOnes) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const int64_t rows = random.Integer(1, 100), columns = random.Integer(1, 100);
    const DeviceFloat8Matrix matrix(context_.stream(), RandomFloat8Matrix(random, rows, columns));
    Tensor actual = OfDevice({columns, rows}, DType::kBF16);
    Tensor expected = OfDevice({columns, rows}, DType::kBF16);
    Transpose(context_, matrix.view(), actual);
    Transpose(context_, Widened(matrix.view()).view(), expected);
    EXPECT_TRUE(SameBytes(ToHost(actual), ToHost(expected)));
  }
}

TEST_F(CudaDequantise, SparseMlpIsThatOfTheWidenedWeights) {
  Random random(3);
  constexpr int64_t kTokens = 128, kDim = 64, kNeurons = 128, kChosen = 48;
  const DeviceFloat8Matrix fc1(context_.stream(), RandomFloat8Matrix(random, kNeurons, kDim, 0.2f));
  const Tensor wide = Widened(fc1.view());
  const auto random_halves = [&](const Shape& shape, float scale) {
    return random.Normal(shape, scale, DType::kBF16);
  };
  const auto there = [&](const Tensor& host) { return ToDevice(context_.stream(), host.view()); };
  const Tensor fc2_transposed = there(random_halves({kNeurons, kDim}, 0.1f));
  const Tensor input = there(random_halves({1, kTokens, kDim}, 1));
  Tensor indices({1, 1, kChosen}, DType::kI32), counts({1, 1}, DType::kI32);
  counts.data<int32_t>()[0] = kChosen;
  for (int32_t j = 0; j < kChosen; ++j) indices.data<int32_t>()[j] = 2 * j + 1;
  const Tensor chosen = there(indices), count = there(counts);
  const Tensor cache = random_halves({1, 1, kNeurons, kTokens}, 1);
  const Tensor output = random.Normal({1, kTokens, kDim});
  std::vector<Tensor> results;
  for (const ConstTensorView& weight : {fc1.view(), wide.view()}) {
    const MlpWeights weights = {.fc1_weight = weight,
                                .fc1_bias = {},
                                .fc2_weight = {},
                                .fc2_weight_transposed = fc2_transposed.view(),
                                .fc2_bias = {}};
    Tensor activations = there(cache), sums = there(output);
    ColumnSparseMlp(context_, input, weights, {chosen.view(), count.view(), kTokens}, activations,
                    sums);
    results.push_back(ToHost(sums));
    results.push_back(ToHost(activations));
  }
  for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(SameBytes(results[i], results[i + 2])) << i;
  EXPECT_FALSE(SameBytes(results[0], output));
}

}  // namespace
}  // namespace tamias
