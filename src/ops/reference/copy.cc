// The copy, element by element.
#include "ops/copy.h"

#include <cstring>

#include "ops/reference/elements.h"

namespace tamias::reference {

void Copy(Context&, ConstTensorView source, TensorView destination) {
  const size_t size = SizeOf(source.dtype());
  const auto* from = static_cast<const std::byte*>(source.raw());
  auto* to = static_cast<std::byte*>(destination.raw());
  ForEachIndex(source.shape(), [&](const Shape& i) {
    std::memcpy(to + Offset(destination, i) * static_cast<int64_t>(size),
                from + Offset(source, i) * static_cast<int64_t>(size), size);
  });
}

}  // namespace tamias::reference
