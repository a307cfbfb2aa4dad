// The one place where JSON text is parsed: RFC 8259 and, as Python's json writes them, the numbers
// NaN, Infinity and -Infinity; with limits on size and depth.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace tamias {

inline constexpr size_t kMaxJsonBytes = size_t{64} << 20;
inline constexpr int kMaxJsonDepth = 64;

// Throws kInvalidFile, "source: problem", for text that is not JSON, nests too deeply or repeats a
// key.
nlohmann::json ParseJson(std::string_view text, const std::string& source);

}  // namespace tamias
