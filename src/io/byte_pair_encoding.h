// Byte-level byte-pair encoding (Sennrich et al. 2016, over bytes as in GPT-2): a word's bytes are
// merged pair by pair, lowest rank first, leftmost first among equals.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tamias {

class BytePairEncoder {
 public:
  using Vocabulary = std::unordered_map<std::string, int32_t>;
  using Merges = std::vector<std::pair<std::string, std::string>>;  // in the order of their ranks

  // Tokens are written in GPT-2's alphabet, in which each byte is a printable character. The last
  // byte of a word carries `end_of_word`; a byte outside of the vocabulary becomes `unknown_id`.
  // Throws kInvalidFile, "source: problem", when a merge names or makes a token that does not
  // exist.
  BytePairEncoder(Vocabulary vocabulary, const Merges& merges, std::string_view end_of_word,
                  int32_t unknown_id, const std::string& source);

  // Appends the ids of one word, any bytes.
  void Encode(std::string_view word, std::vector<int32_t>& ids) const;
  // The token whose bytes these are, without an end of word.
  std::optional<int32_t> Find(std::string_view bytes) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  struct Merge {
    int32_t rank;
    int32_t id;  // of the merged token
  };
  const Merge* FindMerge(int32_t left, int32_t right) const;

  Vocabulary vocabulary_;
  std::array<std::string, 256> alphabet_;       // how tokens spell a byte
  std::unordered_map<uint64_t, Merge> merges_;  // by (left << 32 | right)
  std::array<int32_t, 256> byte_ids_;           // inside a word
  std::array<int32_t, 256> last_byte_ids_;      // at the end of a word
};

}  // namespace tamias
