// T5 tokenizer: texts on fixed vocabularies, tokenizer.json files (input begins with '{') and
// spiece.model files (input begins with the tag of a piece).
#include <algorithm>

#include "io/tokenizer.h"
#include "tamias/error.h"
#include "tests/fuzz/fuzz_target.h"

namespace tamias::fuzz {

constexpr std::string_view kText = "a red CIRCLE\t e\u0301<x> \u2581 </s>";

static void CheckEncoding(const UnigramTokenizer& tokenizer, std::string_view text) {
  constexpr int64_t kMaxLength = 64;
  const std::vector<int32_t> ids = tokenizer.Encode(text, kMaxLength);
  Require(ids.size() == kMaxLength, "ids are padded to the length");
  Require(std::ranges::count(ids, tokenizer.end_id()) > 0, "there is an end token");
  for (const int32_t id : ids) Require(id >= 0 && id < tokenizer.vocab_size(), "ids are in range");
}

TAMIAS_FUZZ_TARGET(unigram_tokenizer)(Bytes input) {
  static const UnigramTokenizer tokenizers[] = {
      UnigramTokenizer::Load(TAMIAS_TEST_DATA "/io/t5_flux"),
      UnigramTokenizer::Load(TAMIAS_TEST_DATA "/io/t5_plain")};
  constexpr uint8_t kPieceTag = 0x0A;
  try {
    if (!input.empty() && input[0] == '{') {
      CheckEncoding(UnigramTokenizer::Parse(AsText(input), "tokenizer.json"), kText);
    } else if (!input.empty() && input[0] == kPieceTag) {
      CheckEncoding(UnigramTokenizer::ParseSentencePiece(AsText(input), "spiece.model"), kText);
    } else {
      for (const UnigramTokenizer& tokenizer : tokenizers) CheckEncoding(tokenizer, AsText(input));
    }
  } catch (const Error&) {
  }
}

}  // namespace tamias::fuzz
