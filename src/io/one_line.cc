// Cut to a number of bytes between characters, control characters escaped ("\n", "\x07").
#include "io/one_line.h"

#include <fmt/format.h>

#include <algorithm>

namespace tamias {

std::string OneLine(std::string_view text, size_t max_bytes) {
  size_t end = std::min(text.size(), max_bytes);
  while (end < text.size() && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) {
    --end;  // not within a character
  }
  std::string line;
  for (const char c : text.substr(0, end)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      line += "\\n";
    } else if (byte < 0x20 || byte == 0x7F) {
      line += fmt::format("\\x{:02x}", byte);
    } else {
      line += c;
    }
  }
  if (end < text.size()) line += "...";
  return line;
}

}  // namespace tamias
