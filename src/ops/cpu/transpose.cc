// A blocked transposition that widens.
#include "ops/transpose.h"

#include <algorithm>

#include "base/parallel.h"

namespace tamias::cpu {
namespace {

float Widen(float value) { return value; }
float Widen(Float16 value) { return ToFloat(value); }
float Widen(BFloat16 value) { return ToFloat(value); }

template <typename T>
void TransposeAs(const Context& context, ConstTensorView input, TensorView output) {
  const T* source = input.data<T>();
  float* destination = output.data<float>();
  const int64_t rows = input.dim(0);
  const int64_t stride = input.stride(0);
  constexpr int64_t kBlock = 32;  // columns at a time: a cache line or two of every row read
  ParallelForRanges(context, input.dim(1), kBlock, [&](int64_t begin, int64_t end, int) {
    for (int64_t block = begin; block < end; block += kBlock) {
      const int64_t block_end = std::min(end, block + kBlock);
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t column = block; column < block_end; ++column) {
          destination[column * rows + row] = Widen(source[row * stride + column]);
        }
      }
    }
  });
}

}  // namespace

void Transpose(Context& context, ConstTensorView input, TensorView output) {
  if (input.dtype() == DType::kF32) return TransposeAs<float>(context, input, output);
  if (input.dtype() == DType::kF16) return TransposeAs<Float16>(context, input, output);
  TransposeAs<BFloat16>(context, input, output);
}

}  // namespace tamias::cpu
