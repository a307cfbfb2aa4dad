// Choosing some of many in a row, spread evenly.
#pragma once

#include <cstdint>

namespace tamias {

// Whether number i of `count` is among the `chosen`: of any run of them as many as its share is,
// within one; the last one always, where any is.
constexpr bool IsAmongSpread(int64_t i, int64_t chosen, int64_t count) {
  return (i + 1) * chosen / count > i * chosen / count;
}

}  // namespace tamias
