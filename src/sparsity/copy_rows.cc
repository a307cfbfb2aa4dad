#include "sparsity/copy_rows.h"

#include <cstring>

#include "base/parallel.h"

namespace tamias {

void CopyRows(Context& context, ConstTensorView source, TensorView destination) {
  TAMIAS_CHECK(source.rank() == 3 && source.shape() == destination.shape());
  TAMIAS_CHECK(source.stride(2) == 1 && destination.stride(2) == 1);
  const int64_t rows = source.dim(1);
  const size_t bytes = static_cast<size_t>(source.dim(2)) * sizeof(float);
  constexpr int64_t kGrain = 64;  // rows
  ParallelForRanges(context, source.dim(0) * rows, kGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      std::memcpy(
          destination.data<float>() + row / rows * destination.stride(0) +
              row % rows * destination.stride(1),
          source.data<float>() + row / rows * source.stride(0) + row % rows * source.stride(1),
          bytes);
    }
  });
}

}  // namespace tamias
