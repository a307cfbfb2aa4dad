// Copy of chosen columns, one element at a time.
#include "ops/copy_indices.h"

namespace tamias::reference {

void CopyIndices(Context&, ConstTensorView source, ConstTensorView indices, ConstTensorView counts,
                 TensorView destination) {
  for (int64_t r = 0; r < source.dim(0); ++r) {
    for (int64_t j = 0; j < counts.data<int32_t>()[r]; ++j) {
      const int64_t i = indices.data<int32_t>()[r * indices.stride(0) + j];
      destination.data<float>()[r * destination.stride(0) + i] =
          source.data<float>()[r * source.stride(0) + i];
    }
  }
}

}  // namespace tamias::reference
