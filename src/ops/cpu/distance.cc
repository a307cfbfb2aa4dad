// The distance by all threads: fp32 sums over pieces of a row, double ones over pieces. Rows are
// added up in blocks of fixed size and blocks in order, so that the number of threads does not
// show.
#include "ops/distance.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/cpu/elements.h"
#include "ops/cpu/rows.h"

namespace tamias::cpu {
namespace {

constexpr int64_t kBlock = 64;     // rows
constexpr int64_t kPiece = 16384;  // elements that are added up in fp32, by several lanes

template <typename A, typename B>
Distance OfPiece(const A* a, const B* b, int64_t count) {
  float absolute = 0, absolute_reference = 0, squared = 0, squared_reference = 0;
#pragma omp simd reduction(+ : absolute, absolute_reference, squared, squared_reference)
  for (int64_t i = 0; i < count; ++i) {
    const float reference = ToFloat(b[i]);
    const float difference = ToFloat(a[i]) - reference;
    absolute += std::abs(difference);
    absolute_reference += std::abs(reference);
    squared += difference * difference;
    squared_reference += reference * reference;
  }
  return {absolute, absolute_reference, squared, squared_reference};
}

template <typename A, typename B>
Distance Measure(Context& context, const ConstTensorView& a, const ConstTensorView& b) {
  const Rows<2> rows({&a, &b}, /*merge_width=*/false);
  const int64_t blocks = (rows.count() + kBlock - 1) / kBlock;
  std::vector<Distance> sums(static_cast<size_t>(blocks));
  ParallelForDynamic(context, blocks, [&](int64_t block, int) {
    Distance& sum = sums[static_cast<size_t>(block)];
    for (int64_t row = block * kBlock; row < std::min(rows.count(), (block + 1) * kBlock); ++row) {
      const auto at = rows.Offsets(row);
      for (int64_t begin = 0; begin < rows.width(); begin += kPiece) {
        const int64_t count = std::min(kPiece, rows.width() - begin);
        sum += OfPiece(a.data<A>() + at[0] + begin, b.data<B>() + at[1] + begin, count);
      }
    }
  });
  Distance total;
  for (const Distance& sum : sums) total += sum;
  return total;
}

}  // namespace

Distance MeasureDistance(Context& context, ConstTensorView a, ConstTensorView b) {
  Distance distance;
  WithElementType(a.dtype(), [&](auto of_a) {
    WithElementType(b.dtype(), [&](auto of_b) {
      distance = Measure<decltype(of_a), decltype(of_b)>(context, a, b);
    });
  });
  return distance;
}

}  // namespace tamias::cpu
