// Names from files as they appear in messages: one line, whatever the file says.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tamias {

// Control characters become escapes ("\n", "\x01"); what is beyond max_bytes becomes "...".
std::string OneLine(std::string_view text, size_t max_bytes = 200);

}  // namespace tamias
