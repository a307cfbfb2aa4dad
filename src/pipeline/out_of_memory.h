// One kind of error for memory that cannot be had, whoever asked for it.
#pragma once

#include <new>

#include "base/check.h"
#include "base/machine.h"

namespace tamias {

// Runs the body; an allocation of the standard library that failed becomes an Error, too.
template <typename Body>
auto WithOutOfMemory(const Body& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    Fail(ErrorCode::kOutOfMemory, "out of memory ({})", TightestMemoryLimit());
  }
}

}  // namespace tamias
