// CLIP tokenizer: texts on fixed vocabularies, and (input begins with '{') tokenizer.json files.
#include <algorithm>

#include "io/tokenizer.h"
#include "tamias/error.h"
#include "tests/fuzz/fuzz_target.h"

namespace tamias::fuzz {

static void CheckEncoding(const ClipTokenizer& tokenizer, std::string_view text) {
  constexpr int64_t kMaxLength = 77;
  const std::vector<int32_t> ids = tokenizer.Encode(text, kMaxLength);
  Require(ids.size() == kMaxLength, "ids are padded to the length");
  Require(ids.front() == tokenizer.start_id(), "the start token is first");
  Require(std::ranges::count(ids, tokenizer.end_id()) > 0, "there is an end token");
  for (const int32_t id : ids) Require(id >= 0 && id < tokenizer.vocab_size(), "ids are in range");
}

TAMIAS_FUZZ_TARGET(clip_tokenizer)(Bytes input) {
  static const ClipTokenizer tokenizers[] = {
      ClipTokenizer::Load(TAMIAS_TEST_DATA "/io/clip_vocab_merges"),
      ClipTokenizer::Load(TAMIAS_TEST_DATA "/io/clip_flags")};
  try {
    for (const ClipTokenizer& tokenizer : tokenizers) CheckEncoding(tokenizer, AsText(input));
    if (!input.empty() && input[0] == '{') {
      CheckEncoding(ClipTokenizer::Parse(AsText(input), "tokenizer.json"),
                    "a red<x> CIRCLE <|endoftext|>");
    }
  } catch (const Error&) {
  }
}

}  // namespace tamias::fuzz
