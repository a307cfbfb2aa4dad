// The search in the double array: from a unit, the next one lies at its offset xor the byte, and is
// a child where its label is that byte.
#include "io/character_map.h"

#include "base/check.h"
#include "io/unicode.h"

namespace tamias {
namespace {

// Fields of a unit of the double array (darts-clone): 31 bits of value in a leaf, or an 8-bit label
// with a flag that marks a leaf, and the offset to the children.
constexpr uint32_t Value(uint32_t unit) { return unit & 0x7FFFFFFFu; }
constexpr uint32_t Label(uint32_t unit) { return unit & 0x800000FFu; }
constexpr bool HasLeaf(uint32_t unit) { return ((unit >> 8) & 1) != 0; }
constexpr uint32_t Offset(uint32_t unit) { return (unit >> 10) << ((unit & 0x200u) >> 6); }

uint32_t ReadU32(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) {
    value |= uint32_t{static_cast<unsigned char>(bytes[at + i])} << (8 * i);
  }
  return value;
}

}  // namespace

CharacterMap::CharacterMap(std::string_view bytes, const std::string& source) {
  constexpr size_t kHeader = 4;
  const auto fail = [&](std::string_view problem) {
    Fail(ErrorCode::kInvalidFile, "{}: precompiled_charsmap: {}", source, problem);
  };
  if (bytes.size() < kHeader) fail("cut off");
  const size_t trie_bytes = ReadU32(bytes, 0);
  if (trie_bytes % 4 != 0 || trie_bytes == 0 || trie_bytes > bytes.size() - kHeader) {
    fail("the trie's size does not fit");
  }
  for (size_t i = 0; i < trie_bytes; i += 4) trie_.push_back(ReadU32(bytes, kHeader + i));
  texts_ = bytes.substr(kHeader + trie_bytes);
  texts_ += '\0';
  try {
    CheckUtf8(texts_);
  } catch (const Error& error) {
    fail(error.what());
  }
}

std::optional<std::string_view> CharacterMap::Find(std::string_view key) const {
  size_t place = Offset(trie_[0]);
  for (const char c : key) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == 0) return std::nullopt;
    place ^= byte;
    if (place >= trie_.size() || Label(trie_[place]) != byte) return std::nullopt;
    const bool has_leaf = HasLeaf(trie_[place]);
    place ^= Offset(trie_[place]);
    if (place >= trie_.size()) return std::nullopt;
    if (!has_leaf) continue;
    const size_t begin = Value(trie_[place]);
    // A text starts at a character; a value that points into one is corrupt.
    if (begin >= texts_.size() || (static_cast<unsigned char>(texts_[begin]) & 0xC0) == 0x80) {
      return std::nullopt;
    }
    return std::string_view(texts_).substr(begin, texts_.find('\0', begin) - begin);
  }
  return std::nullopt;
}

std::string CharacterMap::Apply(std::string_view text) const {
  if (trie_.empty()) return std::string(text);
  // Longer clusters are not looked up whole: no key of the maps in use is that long.
  constexpr size_t kMaxClusterBytes = 5;
  std::string result;
  result.reserve(text.size());
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = GraphemeEnd(text, begin);
    if (end - begin <= kMaxClusterBytes) {
      if (const auto mapped = Find(text.substr(begin, end - begin))) {
        result += *mapped;
        begin = end;
        continue;
      }
    }
    while (begin < end) {
      const std::string_view character = text.substr(begin, CharacterAt(text, begin).size);
      result += Find(character).value_or(character);
      begin += character.size();
    }
  }
  return result;
}

}  // namespace tamias
