// Throwing with a formatted message: Fail(ErrorCode::kInvalidArgument, "output: '{}': ...", path).
#pragma once

#include <fmt/format.h>

#include <utility>

#include "tamias/error.h"

namespace tamias::cli {

template <typename... Args>
[[noreturn]] void Fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace tamias::cli
