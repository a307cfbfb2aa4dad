// A blocked transposition that converts.
#include "ops/transpose.h"

#include <algorithm>

#include "base/parallel.h"
#include "ops/cpu/elements.h"

namespace tamias::cpu {
namespace {

template <typename From, typename To>
void TransposeAs(const Context& context, ConstTensorView input, TensorView output) {
  const From* source = input.data<From>();
  To* destination = output.data<To>();
  const int64_t rows = input.dim(0);
  const int64_t stride = input.stride(0);
  const float* scales = input.row_scales();
  constexpr int64_t kBlock = 32;  // columns at a time: a cache line or two of every row read
  ParallelForRanges(context, input.dim(1), kBlock, [&](int64_t begin, int64_t end, int) {
    for (int64_t block = begin; block < end; block += kBlock) {
      const int64_t block_end = std::min(end, block + kBlock);
      for (int64_t row = 0; row < rows; ++row) {
        const float scale = scales == nullptr ? 1 : scales[row];
        for (int64_t column = block; column < block_end; ++column) {
          SetFloat(scale * ToFloat(source[row * stride + column]),
                   destination[column * rows + row]);
        }
      }
    }
  });
}

}  // namespace

void Transpose(Context& context, ConstTensorView input, TensorView output) {
  WithElementType(output.dtype(), [&](auto element) {
    using To = decltype(element);
    if (input.dtype() == DType::kF32) return TransposeAs<float, To>(context, input, output);
    if (input.dtype() == DType::kF16) return TransposeAs<Float16, To>(context, input, output);
    if (input.dtype() == DType::kF8E4M3) return TransposeAs<Float8E4M3, To>(context, input, output);
    TransposeAs<BFloat16, To>(context, input, output);
  });
}

}  // namespace tamias::cpu
