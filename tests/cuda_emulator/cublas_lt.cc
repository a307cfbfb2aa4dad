// What stands in for cuBLASLt on the emulated device: the product of a plan by plain loops, sums in
// fp32, the result rounded once to the output's type.
#include "ops/cuda/cublas_lt.h"

#include <array>
#include <vector>

#include "ops/activation.h"
#include "tests/cuda_emulator/device.h"
#include "tests/cuda_emulator/streams.h"

namespace tamias::cuda {
namespace {

float Load(const void* data, DType dtype, int64_t i) {
  if (dtype == DType::kF32) return static_cast<const float*>(data)[i];
  if (dtype == DType::kF16) return ToFloat(static_cast<const Float16*>(data)[i]);
  return ToFloat(static_cast<const BFloat16*>(data)[i]);
}

void Store(void* data, DType dtype, int64_t i, float value) {
  if (dtype == DType::kF32) {
    static_cast<float*>(data)[i] = value;
  } else if (dtype == DType::kF16) {
    static_cast<Float16*>(data)[i] = ToFloat16(value);
  } else {
    static_cast<BFloat16*>(data)[i] = ToBFloat16(value);
  }
}

// The rows of a matrix of 16-bit numbers, in fp32.
std::vector<float> Widened(const void* data, DType dtype, int64_t first, int64_t rows,
                           int64_t stride, int64_t columns) {
  std::vector<float> values(static_cast<size_t>(rows * columns));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      values[static_cast<size_t>(r * columns + c)] = Load(data, dtype, first + r * stride + c);
    }
  }
  return values;
}

void Product(const LinearPlan& plan, const void* input, const void* weight, const void* bias,
             void* output) {
  const std::vector<float> w =
      Widened(weight, plan.dtype, 0, plan.outputs, plan.weight_stride, plan.inputs);
  for (int64_t batch = 0; batch < plan.batches; ++batch) {
    const std::vector<float> x = Widened(input, plan.dtype, batch * plan.input_batch_stride,
                                         plan.rows, plan.input_stride, plan.inputs);
    for (int64_t row = 0; row < plan.rows; ++row) {
      for (int64_t n = 0; n < plan.outputs; ++n) {
        const float* a = x.data() + row * plan.inputs;
        const float* b = w.data() + n * plan.inputs;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t k = 0; k < plan.inputs; ++k) sum += a[k] * b[k];
        if (plan.has_bias) sum += Load(bias, plan.output_type, n);
        if (plan.fused != Activation::kNone) {
          sum = static_cast<float>(reference::ActivateScalar(plan.fused, sum));
        }
        const int64_t i = batch * plan.output_batch_stride + row * plan.output_stride + n;
        if (plan.accumulates) sum += Load(output, plan.output_type, i);
        Store(output, plan.output_type, i, sum);
      }
    }
  }
}

}  // namespace

class CublasLt::State {};

CublasLt::CublasLt(Device) {}

CublasLt::~CublasLt() = default;

void CublasLt::Multiply(Stream& stream, const LinearPlan& plan, const void* input,
                        const void* weight, const void* bias, void* output, void*) {
  cuda_emulator::CheckAddresses(stream.handle(), "a product",
                                std::array<const void*, 4>{input, weight, bias, output});
  cuda_emulator::Enqueue(stream.handle(), "product",
                         [=] { Product(plan, input, weight, bias, output); });
}

}  // namespace tamias::cuda
