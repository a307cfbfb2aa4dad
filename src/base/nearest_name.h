// Spelling help for error messages: the known name nearest to a mistyped one.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace tamias {

// The known name with the smallest edit distance (insertion, deletion, substitution, swap of
// neighbours), or "" when none is within max(2, a third of the length).
std::string NearestName(std::string_view name, std::span<const std::string_view> known);

}  // namespace tamias
