// The copy on all threads: runs of bytes where the last axis is contiguous on both sides, else
// element by element along it.
#include "ops/copy.h"

#include <cstring>

#include "ops/cpu/rows.h"

namespace tamias::cpu {
namespace {

bool HasUnitStride(const ConstTensorView& view) {
  return view.rank() == 0 || view.dim(-1) == 1 || view.stride(-1) == 1;
}

// Bits: the unsigned integer as wide as an element.
template <typename Bits>
void CopyElements(Context& context, const ConstTensorView& source, const TensorView& destination) {
  const auto* from = static_cast<const Bits*>(source.raw());
  auto* to = static_cast<Bits*>(destination.raw());
  const int64_t width = source.dim(-1);
  const int64_t from_stride = source.stride(-1), to_stride = destination.stride(-1);
  ForEachRow<2>(context, {&source, &destination}, [&](const auto& offsets) {
    for (int64_t i = 0; i < width; ++i) {
      to[offsets[1] + i * to_stride] = from[offsets[0] + i * from_stride];
    }
  });
}

void CopyRuns(Context& context, const ConstTensorView& source, const TensorView& destination) {
  const size_t size = SizeOf(source.dtype());
  const auto bytes = static_cast<int64_t>(size);
  const auto* from = static_cast<const std::byte*>(source.raw());
  auto* to = static_cast<std::byte*>(destination.raw());
  ForEachRun<2>(context, {&source, &destination}, [&](const auto& offsets, size_t count) {
    std::memcpy(to + offsets[1] * bytes, from + offsets[0] * bytes, count * size);
  });
}

}  // namespace

void Copy(Context& context, ConstTensorView source, TensorView destination) {
  if (source.NumElements() == 0) return;
  if (HasUnitStride(source) && HasUnitStride(destination)) {
    return CopyRuns(context, source, destination);
  }
  switch (SizeOf(source.dtype())) {
    case 1:
      return CopyElements<uint8_t>(context, source, destination);
    case 2:
      return CopyElements<uint16_t>(context, source, destination);
    case 4:
      return CopyElements<uint32_t>(context, source, destination);
    default:
      return CopyElements<uint64_t>(context, source, destination);
  }
}

}  // namespace tamias::cpu
