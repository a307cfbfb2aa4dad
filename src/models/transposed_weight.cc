// A blocked transpose that widens: see the header.
#include "models/transposed_weight.h"

#include "base/parallel.h"

namespace tamias {
namespace {

float Widen(float value) { return value; }
float Widen(Float16 value) { return ToFloat(value); }
float Widen(BFloat16 value) { return ToFloat(value); }

template <typename T>
void Transpose(const Context& context, ConstTensorView weight, TensorView transposed) {
  const T* source = weight.data<T>();
  float* destination = transposed.data<float>();
  const int64_t rows = weight.dim(0);
  const int64_t stride = weight.stride(0);
  constexpr int64_t kBlock = 32;  // columns at a time: a cache line or two of every row read
  ParallelForRanges(context, weight.dim(1), kBlock, [&](int64_t begin, int64_t end, int) {
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

Tensor TransposedWeight(const Context& context, ConstTensorView weight) {
  TAMIAS_CHECK(weight.rank() == 2 && weight.stride(1) == 1);
  Tensor transposed({weight.dim(1), weight.dim(0)}, DType::kF32);
  switch (weight.dtype()) {
    case DType::kF32:
      Transpose<float>(context, weight, transposed);
      return transposed;
    case DType::kF16:
      Transpose<Float16>(context, weight, transposed);
      return transposed;
    case DType::kBF16:
      Transpose<BFloat16>(context, weight, transposed);
      return transposed;
    default:
      Fail(ErrorCode::kUnsupported, "transposed weight: {} is not a weight's element type",
           Name(weight.dtype()));
  }
}

}  // namespace tamias
