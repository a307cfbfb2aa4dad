// Numbers as people write them: in options, profiles and names. One parser for all of them, the
// same in every locale: decimal digits ("010" is ten), the whole text, no blanks, no "+", no
// hexadecimal and no infinities; "-" where the type has a sign, "1e3" where it has fractions.
#pragma once

#include <charconv>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string_view>
#include <system_error>
#include <type_traits>

namespace tamias {

// Nothing when the text is no number, or one that T cannot hold.
template <typename T>
std::optional<T> ParseNumber(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(value)) return std::nullopt;
  }
  return value;
}

// The number that the option `name` is given. T: int, int64_t, uint64_t or double. Throws
// kInvalidArgument, "name: expected a whole number, found 'text'".
template <typename T>
T NumberFrom(std::string_view name, std::string_view text);

// Bytes: a number of them, or one with a unit, fractions allowed: "8GiB", "1.5 TiB", "500M". K, M,
// G and T are powers of 1024 with or without "iB" or "B", in any case. Throws kInvalidArgument.
size_t BytesFrom(std::string_view name, std::string_view text);

}  // namespace tamias
