// Copy of chosen columns: rows in parallel, indices checked on the way.
#include "ops/copy_indices.h"

#include "base/check.h"
#include "base/parallel.h"

namespace tamias::cpu {
namespace {

// Bits: the unsigned integer as wide as an element.
template <typename Bits>
void CopyElements(Context& context, ConstTensorView source, ConstTensorView indices,
                  ConstTensorView counts, TensorView destination) {
  const int64_t columns = source.dim(1), capacity = indices.dim(1);
  constexpr int64_t kRowsPerTask = 4;  // a row is about a microsecond of work
  ParallelForRanges(context, source.dim(0), kRowsPerTask, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const int32_t count = counts.data<int32_t>()[r];
      if (count < 0 || count > capacity) {
        Fail(ErrorCode::kInvalidArgument,
             "copy indices: counts: expected 0 to {} in row {}, found {}", capacity, r, count);
      }
      const int32_t* index = indices.data<int32_t>() + r * indices.stride(0);
      const Bits* from = static_cast<const Bits*>(source.raw()) + r * source.stride(0);
      Bits* to = static_cast<Bits*>(destination.raw()) + r * destination.stride(0);
      for (int32_t j = 0; j < count; ++j) {
        if (index[j] < 0 || index[j] >= columns) {
          Fail(ErrorCode::kInvalidArgument,
               "copy indices: indices: expected 0 to {} in row {}, found {}", columns - 1, r,
               index[j]);
        }
        to[index[j]] = from[index[j]];
      }
    }
  });
}

}  // namespace

void CopyIndices(Context& context, ConstTensorView source, ConstTensorView indices,
                 ConstTensorView counts, TensorView destination) {
  if (SizeOf(source.dtype()) == sizeof(uint16_t)) {
    return CopyElements<uint16_t>(context, source, indices, counts, destination);
  }
  CopyElements<uint32_t>(context, source, indices, counts, destination);
}

}  // namespace tamias::cpu
