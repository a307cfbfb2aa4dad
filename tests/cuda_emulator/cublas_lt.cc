// What stands in for cuBLASLt on the emulated device: the product of a plan in tiles, sums in fp32,
// the result rounded once to the output's type.
#include "ops/cuda/cublas_lt.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "ops/activation.h"
#include "tests/cuda_emulator/device.h"
#include "tests/cuda_emulator/streams.h"

namespace tamias::cuda {
namespace {

// use(an element of the type).
template <typename Use>
void WithElement(DType dtype, const Use& use) {
  if (dtype == DType::kF32) {
    use(float());
  } else if (dtype == DType::kF16) {
    use(Float16());
  } else {
    use(BFloat16());
  }
}

float Widen(float value) { return value; }
float Widen(Float16 value) { return ToFloat(value); }
float Widen(BFloat16 value) { return ToFloat(value); }

void Store(float value, float& to) { to = value; }
void Store(float value, Float16& to) { to = ToFloat16(value); }
void Store(float value, BFloat16& to) { to = ToBFloat16(value); }

// A matrix in fp32, transposed, its rows filled up with zeros to whole tiles: [columns, stride].
struct Across {
  Across(const void* data, DType dtype, int64_t first, int64_t rows, int64_t row_stride,
         int64_t columns, int64_t tile)
      : stride((rows + tile - 1) / tile * tile), values(static_cast<size_t>(columns * stride)) {
    WithElement(dtype, [&](auto element) {
      const auto* from = static_cast<const decltype(element)*>(data) + first;
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < columns; ++c) {
          values[static_cast<size_t>(c * stride + r)] = Widen(from[r * row_stride + c]);
        }
      }
    });
  }
  int64_t stride;
  std::vector<float> values;
};

constexpr int64_t kTileRows = 4, kTileOutputs = 16;
using Tile = std::array<std::array<float, kTileOutputs>, kTileRows>;

// Sums over the depth, each in its order: a row's numbers do not depend on the rows beside it. Both
// operands are Across's own memory, whose alignment nobody need check.
__attribute__((no_sanitize("alignment")))
#if defined(__x86_64__)
__attribute__((target_clones("avx2", "default")))
#endif
void AddTile(const float* input, int64_t input_stride, const float* weight, int64_t weight_stride,
             int64_t depth, Tile& sums) {
  for (int64_t k = 0; k < depth; ++k) {
    for (size_t r = 0; r < kTileRows; ++r) {
      const float a = input[k * input_stride + static_cast<int64_t>(r)];
      const float* b = weight + k * weight_stride;
      for (size_t n = 0; n < kTileOutputs; ++n) sums[r][n] += a * b[n];
    }
  }
}

// What the library's epilogue makes of the sums of a tile.
template <typename T>
void WriteTile(const LinearPlan& plan, const Tile& sums, int64_t first_row, int64_t first_output,
               const T* bias, T* output) {
  for (int64_t row = first_row; row < std::min(first_row + kTileRows, plan.rows); ++row) {
    for (int64_t n = first_output; n < std::min(first_output + kTileOutputs, plan.outputs); ++n) {
      float sum = sums[static_cast<size_t>(row - first_row)][static_cast<size_t>(n - first_output)];
      if (plan.has_bias) sum += Widen(bias[n]);
      if (plan.fused != Activation::kNone) {
        sum = static_cast<float>(reference::ActivateScalar(plan.fused, sum));
      }
      T& to = output[row * plan.output_stride + n];
      if (plan.accumulates) sum += Widen(to);
      Store(sum, to);
    }
  }
}

void Product(const LinearPlan& plan, const void* input, const void* weight, const void* bias,
             void* output) {
  const Across w(weight, plan.dtype, 0, plan.outputs, plan.weight_stride, plan.inputs,
                 kTileOutputs);
  for (int64_t batch = 0; batch < plan.batches; ++batch) {
    const Across x(input, plan.dtype, batch * plan.input_batch_stride, plan.rows, plan.input_stride,
                   plan.inputs, kTileRows);
    for (int64_t n = 0; n < plan.outputs; n += kTileOutputs) {
      for (int64_t row = 0; row < plan.rows; row += kTileRows) {
        Tile sums{};
        AddTile(x.values.data() + row, x.stride, w.values.data() + n, w.stride, plan.inputs, sums);
        WithElement(plan.output_type, [&](auto element) {
          using T = decltype(element);
          WriteTile(plan, sums, row, n, static_cast<const T*>(bias),
                    static_cast<T*>(output) + batch * plan.output_batch_stride);
        });
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
