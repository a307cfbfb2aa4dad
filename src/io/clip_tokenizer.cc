// CLIP's tokenizer: NFC, white space to one blank, lower case; words by CLIP's pattern; byte-pair
// encoding with "</w>" at word ends. This is the pipeline that transformers 5 builds for every
// CLIPTokenizer, whatever normaliser its tokenizer.json describes.
#include <optional>

#include "base/check.h"
#include "io/added_tokens.h"
#include "io/byte_pair_encoding.h"
#include "io/byte_pair_files.h"
#include "io/json.h"
#include "io/model_file.h"
#include "io/one_line.h"
#include "io/token_length.h"
#include "io/tokenizer.h"
#include "io/unicode.h"

namespace tamias {
namespace {

constexpr std::string_view kStart = "<|startoftext|>";
constexpr std::string_view kEnd = "<|endoftext|>";

std::string Normalize(std::string_view text) {
  const std::string composed = ComposeNfc(text);
  std::string spaced;
  spaced.reserve(composed.size());
  bool after_space = false;
  for (size_t i = 0; i < composed.size();) {
    const Utf8Character character = CharacterAt(composed, i);
    const bool is_space = IsWhitespace(character.code_point);
    if (!is_space) spaced.append(composed, i, character.size);
    if (is_space && !after_space) spaced += ' ';
    after_space = is_space;
    i += character.size;
  }
  return Lowercase(spaced);
}

enum class CharacterClass { kSpace, kLetter, kNumber, kOther };

CharacterClass Classify(int32_t code_point) {
  if (IsLetter(code_point)) return CharacterClass::kLetter;
  if (IsNumber(code_point)) return CharacterClass::kNumber;
  return IsWhitespace(code_point) ? CharacterClass::kSpace : CharacterClass::kOther;
}

// The end of the run of characters of one class that begins at `begin`.
size_t RunEnd(std::string_view text, size_t begin, CharacterClass kind) {
  while (begin < text.size()) {
    const Utf8Character character = CharacterAt(text, begin);
    if (Classify(character.code_point) != kind) break;
    begin += character.size;
  }
  return begin;
}

// The size of an English contraction at the start of `text`, or 0.
size_t ContractionSize(std::string_view text) {
  for (const std::string_view ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
    if (text.starts_with(ending)) return ending.size();
  }
  return 0;
}

// Calls on_word for each match of
//   <\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
// A spelt-out special token that was not recognised as such (upper case) falls into three words.
template <typename OnWord>
void SplitWords(std::string_view text, const OnWord& on_word) {
  for (size_t i = 0; i < text.size();) {
    size_t special_size = 0;
    for (const std::string_view special : {kStart, kEnd}) {
      if (text.substr(i).starts_with(special)) special_size = special.size();
    }
    if (special_size != 0) {
      on_word(text.substr(i, 2));
      on_word(text.substr(i + 2, special_size - 4));
      on_word(text.substr(i + special_size - 2, 2));
      i += special_size;
      continue;
    }
    const Utf8Character character = CharacterAt(text, i);
    const CharacterClass kind = Classify(character.code_point);
    size_t end = i + character.size;
    if (const size_t contraction = ContractionSize(text.substr(i)); contraction != 0) {
      end = i + contraction;
    } else if (kind == CharacterClass::kLetter || kind == CharacterClass::kOther) {
      end = RunEnd(text, i, kind);
    }
    if (kind != CharacterClass::kSpace) on_word(text.substr(i, end - i));
    i = end;
  }
}

// The id of a named token that the model must know.
int32_t RequireId(const BytePairEncoder::Vocabulary& vocabulary, const TokenizerConfig& config,
                  std::string_view name, const std::string& source) {
  const std::string content = config.Content(name, std::string(kEnd));
  const auto it = vocabulary.find(content);
  if (it == vocabulary.end()) {
    Fail(ErrorCode::kInvalidFile, "{}: {} '{}' is not in the vocabulary", source, name,
         OneLine(content));
  }
  return it->second;
}

}  // namespace

struct ClipTokenizer::Model {
  Model(BytePairEncoder::Vocabulary vocabulary, const BytePairEncoder::Merges& merges,
        int32_t unknown_id, const TokenizerConfig& config, const std::string& source)
      : encoder(std::move(vocabulary), merges, "</w>", unknown_id, source) {
    for (const auto& [token, id] : encoder.vocabulary()) vocab_size = std::max(vocab_size, id + 1);
    for (const auto& [id, token] : config.added) AddToken(token);
    for (const auto& [name, token] : config.named_tokens) AddToken(token);
    for (const AddedToken& token : config.extra) AddToken(token);
    start_id = NamedToken(config, "bos_token", kStart);
    end_id = NamedToken(config, "eos_token", kEnd);
    pad_id = NamedToken(config, "pad_token", kEnd);
    vocab_size = std::max(vocab_size, added.max_id() + 1);
  }

  void AddToken(const AddedToken& token) {
    const auto it = encoder.vocabulary().find(token.content);
    const bool is_known = it != encoder.vocabulary().end();
    added.Add(token, is_known ? std::optional(it->second) : std::nullopt, vocab_size, Normalize);
  }

  int32_t NamedToken(const TokenizerConfig& config, std::string_view name,
                     std::string_view fallback) {
    const std::string content = config.Content(name, std::string(fallback));
    AddToken({.content = content});
    return *added.Find(content);
  }

  static std::unique_ptr<const Model> FromJson(const JsonObject& file,
                                               const TokenizerConfig& config) {
    const JsonObject model = file.Object("model");
    if (const std::string type = model.StringOr("type", "BPE"); type != "BPE") {
      model.FailField("type", fmt::format("expected \"BPE\", found \"{}\"", type));
    }
    BytePairEncoder::Vocabulary vocabulary = ReadVocabulary(model.Object("vocab"));
    const int32_t unknown_id = RequireId(vocabulary, config, "unk_token", file.source());
    return std::make_unique<Model>(std::move(vocabulary), ReadMerges(model), unknown_id, config,
                                   file.source());
  }

  BytePairEncoder encoder;
  AddedTokens added;
  int32_t vocab_size = 0;
  int32_t start_id = 0, end_id = 0, pad_id = 0;
};

ClipTokenizer::ClipTokenizer(std::unique_ptr<const Model> model) : model_(std::move(model)) {}
ClipTokenizer::ClipTokenizer(ClipTokenizer&&) noexcept = default;
ClipTokenizer& ClipTokenizer::operator=(ClipTokenizer&&) noexcept = default;
ClipTokenizer::~ClipTokenizer() = default;

int32_t ClipTokenizer::start_id() const { return model_->start_id; }
int32_t ClipTokenizer::end_id() const { return model_->end_id; }
int32_t ClipTokenizer::pad_id() const { return model_->pad_id; }
int32_t ClipTokenizer::vocab_size() const { return model_->vocab_size; }

ClipTokenizer ClipTokenizer::Load(const std::filesystem::path& folder) {
  if (const auto path = folder / "tokenizer.json"; HasEntry(path)) {
    const JsonObject file = JsonObject::Load(path);
    return ClipTokenizer(Model::FromJson(file, TokenizerConfig::Load(folder, &file)));
  }
  const auto vocabulary_path = folder / "vocab.json", merges_path = folder / "merges.txt";
  if (!HasEntry(vocabulary_path)) {
    Fail(ErrorCode::kNotFound, "{}: neither tokenizer.json nor vocab.json", folder.string());
  }
  const TokenizerConfig config = TokenizerConfig::Load(folder, nullptr);
  BytePairEncoder::Vocabulary vocabulary = ReadVocabulary(JsonObject::Load(vocabulary_path));
  const int32_t unknown_id = RequireId(vocabulary, config, "unk_token", vocabulary_path.string());
  return ClipTokenizer(std::make_unique<Model>(std::move(vocabulary), ReadMergesText(merges_path),
                                               unknown_id, config, merges_path.string()));
}

ClipTokenizer ClipTokenizer::Parse(std::string_view tokenizer_json, const std::string& source) {
  const JsonObject file = JsonObject::Parse(tokenizer_json, source);
  return ClipTokenizer(Model::FromJson(file, TokenizerConfig::FromJson(file)));
}

std::vector<int32_t> ClipTokenizer::Tokenize(std::string_view text) const {
  CheckUtf8(text);
  std::vector<int32_t> ids = {model_->start_id};
  model_->added.Split(
      text, Normalize, [&](int32_t id) { ids.push_back(id); },
      [&](std::string_view piece) {
        SplitWords(piece, [&](std::string_view word) { model_->encoder.Encode(word, ids); });
      });
  ids.push_back(model_->end_id);
  return ids;
}

std::vector<int32_t> ClipTokenizer::Encode(std::string_view text, int64_t max_length) const {
  return FitLength(Tokenize(text), max_length, /*min_length=*/2, model_->end_id, model_->pad_id);
}

}  // namespace tamias
