// Options as people write them, and help where they are mistyped. Numbers are the same in every
// locale: decimal digits ("010" is ten), the whole text, no blanks, no "+", no hexadecimal and no
// infinities; "-" where the type has a sign, "1e3" where it has fractions.
//
//   options.steps = tamias::NumberFrom<int>("steps", "12");
//   options.max_memory_bytes = tamias::BytesFrom("max_memory", "8GiB");
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace tamias {

// The number that the option `name` is given. T: int, int64_t, uint64_t or double. Throws
// kInvalidArgument, "name: expected a whole number, found 'text'".
template <typename T>
T NumberFrom(std::string_view name, std::string_view text);

// Bytes: a number of them, or one with a unit, fractions allowed: "8GiB", "1.5 TiB", "500M". K, M,
// G and T are powers of 1024 with or without "iB" or "B", in any case. Throws kInvalidArgument.
size_t BytesFrom(std::string_view name, std::string_view text);

// "508 MiB", "1.25 GiB".
std::string BytesText(size_t bytes);

// The known name with the smallest edit distance (insertion, deletion, substitution, swap of
// neighbours), or "" when none is within max(2, a third of the length).
std::string NearestName(std::string_view name, std::span<const std::string_view> known);

}  // namespace tamias
