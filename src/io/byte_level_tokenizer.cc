// Llama 3's tokenizer, and its relatives since GPT-2: words by the regular expression that
// tokenizer.json carries, byte-pair encoding of their bytes, and the special tokens of a template
// around them. Pieces of the `tokenizers` library that such files do not use are refused by name.
#include <array>
#include <nlohmann/json.hpp>
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
#include "io/word_pattern.h"

namespace tamias {
namespace {

constexpr IntRange kIdRange = {.min = 0, .max = 1 << 30};
constexpr size_t kMaxStages = 16;  // files in use have two

// What ByteLevel cuts by when it has "use_regex".
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

[[noreturn]] void RefuseType(const JsonObject& object, std::string_view type) {
  object.FailField("type", fmt::format("\"{}\" is not supported here", OneLine(type)));
}

// The members of a "Sequence", or the object alone.
std::vector<JsonObject> Members(const JsonObject& object, std::string_view key) {
  if (object.String("type") != "Sequence") return {object};
  return object.ObjectArray(key);
}

// Cuts text into words, one stage after the other.
class PreTokenizer {
 public:
  explicit PreTokenizer(const JsonObject& json) {
    bool is_byte_level = false;
    const std::vector<JsonObject> items = Members(json, "pretokenizers");
    if (items.size() > kMaxStages) {
      json.FailField("pretokenizers", fmt::format("expected at most {}", kMaxStages));
    }
    for (const JsonObject& item : items) {
      if (is_byte_level) item.FailField("type", "expected nothing after \"ByteLevel\"");
      const std::string type = item.String("type");
      if (type == "Split") {
        stages_.push_back(ReadSplit(item));
      } else if (type == "ByteLevel") {
        stages_.push_back(ReadByteLevel(item));
        is_byte_level = true;
      } else {
        RefuseType(item, type);
      }
    }
    if (!is_byte_level) json.FailField("type", "expected \"ByteLevel\", alone or as the last one");
  }

  template <typename OnWord>
  void Split(std::string_view text, const OnWord& on_word) const {
    RunStage(0, text, on_word);
  }

 private:
  struct Stage {
    std::optional<WordPattern> pattern;  // none: one word
    bool add_prefix_space = false;
  };

  static Stage ReadSplit(const JsonObject& json) {
    const std::string behavior = json.String("behavior");
    if (behavior != "Isolated") {
      json.FailField("behavior",
                     fmt::format("expected \"Isolated\", found \"{}\"", OneLine(behavior)));
    }
    Stage stage;
    stage.pattern = WordPattern(json.Object("pattern").String("Regex"), json.source());
    return stage;
  }

  static Stage ReadByteLevel(const JsonObject& json) {
    Stage stage;
    stage.add_prefix_space = json.BoolOr("add_prefix_space", true);
    if (json.BoolOr("use_regex", true)) stage.pattern = WordPattern(kGpt2Pattern, json.source());
    return stage;
  }

  void RunStage(size_t index, std::string_view text,
                const std::function<void(std::string_view)>& on_word) const {
    if (index == stages_.size()) return on_word(text);
    const Stage& stage = stages_[index];
    std::string prefixed;
    if (stage.add_prefix_space && !text.starts_with(' ')) {
      prefixed = ' ';
      prefixed += text;
      text = prefixed;
    }
    const auto next = [&](std::string_view word) { RunStage(index + 1, word, on_word); };
    stage.pattern ? stage.pattern->Split(text, next) : next(text);
  }

  std::vector<Stage> stages_;
};

// The ids around those of the text.
struct Template {
  std::vector<int32_t> before, after;
};

// The ids of one special token of a TemplateProcessing.
std::vector<int32_t> TemplateIds(const JsonObject& processor, const JsonObject& token) {
  const JsonObject known = processor.Object("special_tokens");
  std::vector<int32_t> ids;
  for (const int64_t id : known.Object(token.String("id")).IntArray("ids", kIdRange)) {
    ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

Template ReadTemplate(const JsonObject& processor) {
  Template result;
  bool has_text = false;
  for (const JsonObject& item : processor.ObjectArray("single")) {
    if (item.Has("SpecialToken")) {
      const std::vector<int32_t> ids = TemplateIds(processor, item.Object("SpecialToken"));
      std::vector<int32_t>& side = has_text ? result.after : result.before;
      side.insert(side.end(), ids.begin(), ids.end());
    } else {
      if (item.Object("Sequence").String("id") != "A" || has_text) {
        processor.FailField("single", "expected the sequence \"A\" once");
      }
      has_text = true;
    }
  }
  if (!has_text) processor.FailField("single", "expected the sequence \"A\" once");
  return result;
}

Template ReadPostProcessor(const JsonObject& file) {
  Template result;
  if (!file.Has("post_processor")) return result;
  for (const JsonObject& item : Members(file.Object("post_processor"), "processors")) {
    const std::string type = item.String("type");
    if (type == "ByteLevel") continue;  // moves offsets only
    if (type != "TemplateProcessing") RefuseType(item, type);
    const Template outer = ReadTemplate(item);
    result.before.insert(result.before.begin(), outer.before.begin(), outer.before.end());
    result.after.insert(result.after.end(), outer.after.begin(), outer.after.end());
  }
  return result;
}

// The side of "truncation" or "padding": by tokenizer_config.json, else by what tokenizer.json was
// saved with, else the right one.
std::string ReadSide(const JsonObject& file, const std::string& what, const JsonObject& config) {
  std::string side = "right";
  if (file.Has(what)) side = Lowercase(file.Object(what).StringOr("direction", side));
  side = config.StringOr(what + "_side", side);
  if (side != "right" && side != "left") {
    config.FailField(what + "_side", fmt::format("expected a side, found \"{}\"", OneLine(side)));
  }
  return side;
}

// Whether text is composed (NFC) first.
bool ReadNormalizer(const JsonObject& file) {
  if (!file.Has("normalizer")) return false;
  const JsonObject normalizer = file.Object("normalizer");
  const std::string type = normalizer.String("type");
  if (type != "NFC") RefuseType(normalizer, type);
  return true;
}

BytePairEncoder ReadEncoder(const JsonObject& model) {
  if (const std::string type = model.StringOr("type", "BPE"); type != "BPE") {
    model.FailField("type", fmt::format("expected \"BPE\", found \"{}\"", OneLine(type)));
  }
  if (model.FloatOr("dropout", 0) != 0) model.FailField("dropout", "expected none");
  model.BoolOr("byte_fallback", false);  // of no effect: every byte has a token, as checked below
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!model.StringOr(affix, "").empty()) model.FailField(affix, "expected none");
  }
  constexpr int32_t kNoToken = -1;
  BytePairEncoder encoder(ReadVocabulary(model.Object("vocab")), ReadMerges(model),
                          /*end_of_word=*/"", kNoToken, model.source());
  for (int32_t byte = 0; byte < 256; ++byte) {
    if (!encoder.Find(std::string(1, static_cast<char>(byte)))) {
      model.FailField("vocab", fmt::format("has no token for the byte 0x{:02X}", byte));
    }
  }
  return encoder;
}

}  // namespace

struct ByteLevelTokenizer::Model {
  // `sides`: tokenizer_config.json, or tokenizer.json where there is none.
  Model(const JsonObject& file, const TokenizerConfig& config, const JsonObject& sides)
      : encoder(ReadEncoder(file.Object("model"))),
        ignore_merges(file.Object("model").BoolOr("ignore_merges", false)),
        composes(ReadNormalizer(file)),
        pre_tokenizer(file.Object("pre_tokenizer")),
        frame(ReadPostProcessor(file)),
        keeps_end(ReadSide(file, "truncation", sides) == "left") {
    if (ReadSide(file, "padding", sides) == "left") {
      sides.FailField("padding_side", "expected \"right\", found \"left\"");
    }
    for (const auto& [token, id] : encoder.vocabulary()) vocab_size = std::max(vocab_size, id + 1);
    for (const auto& [id, token] : config.added) AddToken(token);
    for (const auto& [name, token] : config.named_tokens) AddToken(token);
    for (const AddedToken& token : config.extra) AddToken(token);
    vocab_size = std::max(vocab_size, added.max_id() + 1);
    for (const auto& side : {frame.before, frame.after}) {
      for (const int32_t id : side) vocab_size = std::max(vocab_size, id + 1);
    }
  }

  void AddToken(const AddedToken& token) {
    const auto it = encoder.vocabulary().find(token.content);
    const bool is_known = it != encoder.vocabulary().end();
    added.Add(token, is_known ? std::optional(it->second) : std::nullopt, vocab_size, Normalizer());
  }

  AddedTokens::Normalizer Normalizer() const {
    return
        [this](std::string_view text) { return composes ? ComposeNfc(text) : std::string(text); };
  }

  void EncodeWord(std::string_view word, std::vector<int32_t>& ids) const {
    if (const auto id = ignore_merges ? encoder.Find(word) : std::nullopt) {
      ids.push_back(*id);
    } else {
      encoder.Encode(word, ids);
    }
  }

  // Without the template.
  std::vector<int32_t> EncodeText(std::string_view text) const {
    CheckUtf8(text);
    std::vector<int32_t> ids;
    added.Split(
        text, Normalizer(), [&](int32_t id) { ids.push_back(id); },
        [&](std::string_view piece) {
          pre_tokenizer.Split(piece, [&](std::string_view word) { EncodeWord(word, ids); });
        });
    return ids;
  }

  std::vector<int32_t> Frame(std::vector<int32_t> ids) const {
    ids.insert(ids.begin(), frame.before.begin(), frame.before.end());
    ids.insert(ids.end(), frame.after.begin(), frame.after.end());
    return ids;
  }

  BytePairEncoder encoder;
  bool ignore_merges;  // a word that is a token stays whole, even where merges lead elsewhere
  bool composes;
  PreTokenizer pre_tokenizer;
  Template frame;
  bool keeps_end;  // long texts lose their beginning
  AddedTokens added;
  int32_t vocab_size = 0;
};

ByteLevelTokenizer::ByteLevelTokenizer(std::unique_ptr<const Model> model)
    : model_(std::move(model)) {}
ByteLevelTokenizer::ByteLevelTokenizer(ByteLevelTokenizer&&) noexcept = default;
ByteLevelTokenizer& ByteLevelTokenizer::operator=(ByteLevelTokenizer&&) noexcept = default;
ByteLevelTokenizer::~ByteLevelTokenizer() = default;

int32_t ByteLevelTokenizer::vocab_size() const { return model_->vocab_size; }

ByteLevelTokenizer ByteLevelTokenizer::Load(const std::filesystem::path& folder) {
  const JsonObject file = JsonObject::Load(folder / "tokenizer.json");
  const auto config_path = folder / "tokenizer_config.json";
  return ByteLevelTokenizer(
      std::make_unique<Model>(file, TokenizerConfig::Load(folder, &file),
                              HasEntry(config_path) ? JsonObject::Load(config_path) : file));
}

ByteLevelTokenizer ByteLevelTokenizer::Parse(std::string_view tokenizer_json,
                                             const std::string& source) {
  const JsonObject file = JsonObject::Parse(tokenizer_json, source);
  return ByteLevelTokenizer(
      std::make_unique<Model>(file, TokenizerConfig::FromJson(file), /*sides=*/file));
}

std::vector<int32_t> ByteLevelTokenizer::Tokenize(std::string_view text) const {
  return model_->Frame(model_->EncodeText(text));
}

std::vector<int32_t> ByteLevelTokenizer::Encode(std::string_view text, int64_t max_length) const {
  const auto framing =
      static_cast<int64_t>(model_->frame.before.size() + model_->frame.after.size());
  CheckMaxLength(max_length, std::max<int64_t>(1, framing));
  std::vector<int32_t> ids = model_->EncodeText(text);
  if (const auto excess = std::ssize(ids) - (max_length - framing); excess > 0) {
    const auto begin = model_->keeps_end ? ids.begin() : ids.end() - excess;
    ids.erase(begin, begin + excess);
  }
  return model_->Frame(std::move(ids));
}

}  // namespace tamias
