// Byte-level tokenizer: texts on fixed vocabularies; regular expressions (input begins with '/');
// and (input begins with '{') changes to a tokenizer.json, top-level fields given by the input.
#include <nlohmann/json.hpp>

#include "io/tokenizer.h"
#include "io/word_pattern.h"
#include "tamias/error.h"
#include "tamias/files.h"
#include "tests/fuzz/fuzz_target.h"

namespace tamias::fuzz {

constexpr std::string_view kText = "it's a  red\n CIRCLE 12345 e\u0301<|eot_id|>\u180e\U0001f600";

static void CheckEncoding(const ByteLevelTokenizer& tokenizer, std::string_view text) {
  constexpr size_t kMaxLength = 64;
  const std::vector<int32_t> ids = tokenizer.Encode(text, kMaxLength);
  Require(ids.size() <= kMaxLength, "ids are cut to the length");
  Require(ids.size() == std::min(kMaxLength, tokenizer.Tokenize(text).size()), "nothing else is");
  for (const int32_t id : ids) Require(id >= 0 && id < tokenizer.vocab_size(), "ids are in range");
}

static void CheckSplit(std::string_view pattern) {
  std::string joined;
  WordPattern(pattern, "pattern").Split(kText, [&](std::string_view word) {
    Require(!word.empty(), "words are not empty");
    joined += word;
  });
  Require(joined == kText, "words make up the text");
}

// The tokenizer.json of the fixture with the fields of `changes` in place of its own.
static std::string Changed(std::string_view changes) {
  static const auto original = nlohmann::json::parse(
      ReadFile(TAMIAS_TEST_DATA "/io/byte_level_llama/tokenizer.json", size_t{1} << 20));
  const auto fields = nlohmann::json::parse(changes, nullptr, /*allow_exceptions=*/false);
  if (!fields.is_object()) return std::string(changes);
  nlohmann::json file = original;
  file.update(fields);
  return file.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

TAMIAS_FUZZ_TARGET(byte_level_tokenizer)(Bytes input) {
  static const ByteLevelTokenizer tokenizers[] = {
      ByteLevelTokenizer::Load(TAMIAS_TEST_DATA "/io/byte_level_llama"),
      ByteLevelTokenizer::Load(TAMIAS_TEST_DATA "/io/byte_level_gpt")};
  try {
    if (!input.empty() && input[0] == '{') {
      CheckEncoding(ByteLevelTokenizer::Parse(Changed(AsText(input)), "tokenizer.json"), kText);
    } else if (!input.empty() && input[0] == '/') {
      CheckSplit(AsText(input).substr(1));
    } else {
      for (const ByteLevelTokenizer& tokenizer : tokenizers) {
        CheckEncoding(tokenizer, AsText(input));
      }
    }
  } catch (const Error&) {
  }
}

}  // namespace tamias::fuzz
