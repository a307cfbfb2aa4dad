// Merging with a heap of candidate pairs over a doubly linked list of symbols: n log n in the
// length of a word, which a prompt without spaces can make long.
#include "io/byte_pair_encoding.h"

#include <functional>
#include <queue>
#include <tuple>

#include "base/check.h"
#include "io/one_line.h"
#include "io/unicode.h"

namespace tamias {
namespace {

uint64_t PairKey(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

// GPT-2's alphabet: printable Latin-1 stands for itself, the other bytes in order for 256, 257, ...
std::array<std::string, 256> ByteAlphabet() {
  std::array<std::string, 256> alphabet;
  int32_t next = 256;
  for (int32_t byte = 0; byte < 256; ++byte) {
    const bool is_printable =
        (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    AppendUtf8(alphabet[static_cast<size_t>(byte)], is_printable ? byte : next++);
  }
  return alphabet;
}

}  // namespace

BytePairEncoder::BytePairEncoder(Vocabulary vocabulary, const Merges& merges,
                                 std::string_view end_of_word, int32_t unknown_id,
                                 const std::string& source)
    : vocabulary_(std::move(vocabulary)), alphabet_(ByteAlphabet()) {
  const auto find_or = [&](const std::string& token, int32_t fallback) {
    const auto it = vocabulary_.find(token);
    return it == vocabulary_.end() ? fallback : it->second;
  };
  for (size_t byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = find_or(alphabet_[byte], unknown_id);
    last_byte_ids_[byte] = find_or(alphabet_[byte] + std::string(end_of_word), unknown_id);
  }
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    const int32_t left_id = find_or(left, -1), right_id = find_or(right, -1);
    const int32_t merged_id = find_or(left + right, -1);
    if (left_id < 0 || right_id < 0 || merged_id < 0) {
      Fail(ErrorCode::kInvalidFile, "{}: merge {}: '{}' + '{}': not all in the vocabulary", source,
           rank, OneLine(left), OneLine(right));
    }
    merges_[PairKey(left_id, right_id)] = {static_cast<int32_t>(rank), merged_id};
  }
}

const BytePairEncoder::Merge* BytePairEncoder::FindMerge(int32_t left, int32_t right) const {
  const auto it = merges_.find(PairKey(left, right));
  return it == merges_.end() ? nullptr : &it->second;
}

std::optional<int32_t> BytePairEncoder::Find(std::string_view bytes) const {
  std::string spelled;
  for (const char c : bytes) spelled += alphabet_[static_cast<unsigned char>(c)];
  const auto it = vocabulary_.find(spelled);
  return it == vocabulary_.end() ? std::nullopt : std::optional(it->second);
}

void BytePairEncoder::Encode(std::string_view word, std::vector<int32_t>& ids) const {
  struct Symbol {
    int32_t id;
    int64_t previous, next;  // -1: none
    bool is_alive = true;
  };
  const int64_t count = static_cast<int64_t>(word.size());
  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  for (int64_t i = 0; i < count; ++i) {
    const auto byte = static_cast<unsigned char>(word[static_cast<size_t>(i)]);
    const bool is_last = i + 1 == count;
    symbols.push_back(
        {is_last ? last_byte_ids_[byte] : byte_ids_[byte], i - 1, is_last ? -1 : i + 1});
  }
  const auto at = [&](int64_t i) -> Symbol& { return symbols[static_cast<size_t>(i)]; };

  using Candidate = std::tuple<int32_t, int64_t, int32_t>;  // rank, place of the left half, new id
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
  const auto consider = [&](int64_t left) {
    if (left < 0 || at(left).next < 0) return;
    const Merge* merge = FindMerge(at(left).id, at(at(left).next).id);
    if (merge != nullptr) candidates.emplace(merge->rank, left, merge->id);
  };
  for (int64_t i = 0; i + 1 < count; ++i) consider(i);
  while (!candidates.empty()) {
    const auto [rank, left, merged_id] = candidates.top();
    candidates.pop();
    const int64_t right = at(left).next;
    if (!at(left).is_alive || right < 0) continue;
    // Stale when one of the halves has been merged with another neighbour since.
    const Merge* merge = FindMerge(at(left).id, at(right).id);
    if (merge == nullptr || merge->id != merged_id) continue;
    at(left).id = merged_id;
    at(left).next = at(right).next;
    at(right).is_alive = false;
    if (at(left).next >= 0) at(at(left).next).previous = left;
    consider(at(left).previous);
    consider(left);
  }
  for (const Symbol& symbol : symbols) {
    if (symbol.is_alive) ids.push_back(symbol.id);
  }
}

}  // namespace tamias
