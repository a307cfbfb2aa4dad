// SentencePiece's precompiled character map: a double-array trie from UTF-8 sequences to their
// normalised text (NFKC and similar). Applied as the `tokenizers` library does: per grapheme
// cluster of less than 6 bytes, else per character, each time the shortest key that begins it.
// Format: u32 size of the trie in bytes, the trie (darts-clone units), NUL-terminated texts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tamias {

class CharacterMap {
 public:
  CharacterMap() = default;  // changes nothing
  // Throws kInvalidFile, "source: problem".
  CharacterMap(std::string_view bytes, const std::string& source);

  // `text` must be valid UTF-8; so is the result.
  std::string Apply(std::string_view text) const;

 private:
  std::optional<std::string_view> Find(std::string_view key) const;

  std::vector<uint32_t> trie_;
  std::string texts_;  // valid UTF-8, ends in NUL
};

}  // namespace tamias
