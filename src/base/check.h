// Throwing with a formatted message: Fail(code, "file '{}': ...", path), and TAMIAS_CHECK for
// conditions that only a defect in Tamias can break.
#pragma once

#include <fmt/format.h>

#include <utility>

#include "tamias/error.h"

namespace tamias {

template <typename... Args>
[[noreturn]] void Fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace tamias

#define TAMIAS_CHECK(condition)                                                               \
  ((condition) ? (void)0                                                                      \
               : ::tamias::Fail(::tamias::ErrorCode::kInternal, "internal error: {} ({}:{})", \
                                #condition, __FILE__, __LINE__))
