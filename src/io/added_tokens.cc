// Reads token descriptions in their three forms (tokenizer_config.json, special_tokens_map.json,
// tokenizer.json) and cuts texts at added tokens, leftmost and longest first.
#include "io/added_tokens.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/number.h"
#include "io/json.h"
#include "io/model_file.h"
#include "io/unicode.h"

namespace tamias {
namespace {

constexpr IntRange kIdRange = {.min = 0, .max = 1 << 30};

AddedToken ReadToken(const JsonObject& object, bool normalized_by_default) {
  return {.content = object.String("content"),
          .single_word = object.BoolOr("single_word", false),
          .lstrip = object.BoolOr("lstrip", false),
          .rstrip = object.BoolOr("rstrip", false),
          .normalized = object.BoolOr("normalized", normalized_by_default)};
}

// A special token: a string, or an object with flags.
AddedToken ReadSpecialToken(const JsonObject& object, std::string_view key) {
  const nlohmann::json& value = *object.raw().find(key);
  if (value.is_string()) return {.content = value.get<std::string>()};
  return ReadToken(object.Object(key), /*normalized_by_default=*/false);
}

void ReadNamedTokens(const JsonObject& object, TokenizerConfig& config) {
  for (const std::string& key : object.Keys()) {
    if (!key.ends_with("_token") || !object.Has(key)) continue;
    const nlohmann::json& value = *object.raw().find(key);
    if (!value.is_string() && !value.is_object()) continue;  // flags such as add_bos_token
    config.named_tokens[key] = ReadSpecialToken(object, key);
  }
}

// A list of strings or of objects with flags.
void ReadExtraTokens(const JsonObject& object, std::string_view key, TokenizerConfig& config) {
  if (!object.Has(key)) return;
  const nlohmann::json& value = *object.raw().find(key);
  if (value.is_object()) return;  // names for tokens that are listed elsewhere
  if (value.is_array() && !value.empty() && value[0].is_object()) {
    for (const JsonObject& token : object.ObjectArray(key)) {
      config.extra.push_back(ReadToken(token, /*normalized_by_default=*/false));
    }
    return;
  }
  for (std::string& content : object.StringArray(key)) {
    config.extra.push_back({.content = std::move(content)});
  }
}

int64_t ReadId(const JsonObject& object, const std::string& key) {
  const auto id = ParseNumber<int64_t>(key);
  if (!id || *id < 0 || *id > kIdRange.max) {
    object.FailField(key, "expected a token id as the key");
  }
  return *id;
}

}  // namespace

TokenizerConfig TokenizerConfig::Load(const std::filesystem::path& folder,
                                      const JsonObject* tokenizer_json) {
  TokenizerConfig config;
  bool lists_added_tokens = false;
  if (const auto path = folder / "tokenizer_config.json"; HasEntry(path)) {
    const JsonObject file = JsonObject::Load(path);
    config.extra_ids = file.IntOr("extra_ids", config.extra_ids, {.min = 0, .max = 100000});
    ReadNamedTokens(file, config);
    ReadExtraTokens(file, "extra_special_tokens", config);
    if (config.extra.empty()) ReadExtraTokens(file, "additional_special_tokens", config);
    if (file.Has("added_tokens_decoder")) {
      lists_added_tokens = true;
      const JsonObject decoder = file.Object("added_tokens_decoder");
      for (const std::string& key : decoder.Keys()) {
        config.added[ReadId(decoder, key)] = ReadToken(decoder.Object(key), true);
      }
    }
  }
  if (lists_added_tokens) return config;
  if (const auto path = folder / "special_tokens_map.json"; HasEntry(path)) {
    const JsonObject file = JsonObject::Load(path);
    ReadNamedTokens(file, config);
    ReadExtraTokens(file, "extra_special_tokens", config);
    ReadExtraTokens(file, "additional_special_tokens", config);
  }
  if (const auto path = folder / "added_tokens.json"; HasEntry(path)) {
    const JsonObject file = JsonObject::Load(path);
    for (const std::string& content : file.Keys()) {
      config.added[file.Int(content, kIdRange)] = {.content = content, .normalized = true};
    }
  }
  if (tokenizer_json != nullptr) {
    for (const auto& [id, token] : FromJson(*tokenizer_json).added) config.added[id] = token;
  }
  return config;
}

TokenizerConfig TokenizerConfig::FromJson(const JsonObject& tokenizer_json) {
  TokenizerConfig config;
  if (!tokenizer_json.Has("added_tokens")) return config;
  for (const JsonObject& token : tokenizer_json.ObjectArray("added_tokens")) {
    config.added[token.Int("id", kIdRange)] = ReadToken(token, true);
  }
  return config;
}

std::string TokenizerConfig::Content(std::string_view name, std::string fallback) const {
  const auto it = named_tokens.find(name);
  return it == named_tokens.end() ? std::move(fallback) : it->second.content;
}

void AddedTokens::Add(const AddedToken& token, std::optional<int32_t> id, int32_t vocab_size,
                      const Normalizer& normalizer) {
  if (token.content.empty() || ids_.contains(token.content)) return;
  const int32_t new_id = id ? *id : std::max(max_id_ + 1, vocab_size);
  max_id_ = std::max(max_id_, new_id);
  ids_.emplace(token.content, new_id);
  std::string text = token.normalized ? normalizer(token.content) : token.content;
  if (text.empty()) return;
  std::vector<Pattern>& patterns = token.normalized ? normalized_ : raw_;
  // Sorted by first byte, longest first, so that the first match at a place is the one to take.
  const auto order = [](const Pattern& a, const Pattern& b) {
    return a.text[0] != b.text[0] ? a.text[0] < b.text[0] : a.text.size() > b.text.size();
  };
  Pattern pattern{std::move(text), token, new_id};
  const auto place = std::ranges::upper_bound(patterns, pattern, order);
  patterns.insert(place, std::move(pattern));
}

std::optional<int32_t> AddedTokens::Find(std::string_view content) const {
  const auto it = ids_.find(content);
  return it == ids_.end() ? std::nullopt : std::optional(it->second);
}

namespace {

// The start of the character that ends before byte `end` > 0.
size_t PreviousCharacter(std::string_view text, size_t end) {
  do {
    --end;
  } while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80);
  return end;
}

bool StandsAlone(std::string_view text, size_t begin, size_t end) {
  const bool word_before =
      begin > 0 && IsWord(CharacterAt(text, PreviousCharacter(text, begin)).code_point);
  const bool word_after = end < text.size() && IsWord(CharacterAt(text, end).code_point);
  return !word_before && !word_after;
}

size_t SkipSpaceBackward(std::string_view text, size_t begin, size_t limit) {
  while (begin > limit) {
    const size_t previous = PreviousCharacter(text, begin);
    if (!IsWhitespace(CharacterAt(text, previous).code_point)) break;
    begin = previous;
  }
  return begin;
}

size_t SkipSpaceForward(std::string_view text, size_t end) {
  while (end < text.size()) {
    const Utf8Character character = CharacterAt(text, end);
    if (!IsWhitespace(character.code_point)) break;
    end += character.size;
  }
  return end;
}

}  // namespace

void AddedTokens::SplitBy(const std::vector<Pattern>& patterns, std::string_view text,
                          const std::function<void(int32_t)>& on_token,
                          const std::function<void(std::string_view)>& on_text) {
  size_t done = 0;  // bytes handed out
  for (size_t i = 0; i < text.size();) {
    auto match = std::ranges::lower_bound(patterns, text[i], {},
                                          [](const Pattern& pattern) { return pattern.text[0]; });
    while (match != patterns.end() && match->text[0] == text[i] &&
           !text.substr(i).starts_with(match->text)) {
      ++match;
    }
    if (match == patterns.end() || match->text[0] != text[i]) {
      ++i;
      continue;
    }
    size_t begin = i, end = i + match->text.size();
    i = end;  // the search goes on here, also past a match that is not taken
    if (match->token.single_word && !StandsAlone(text, begin, end)) continue;
    if (match->token.lstrip) begin = SkipSpaceBackward(text, begin, done);
    if (match->token.rstrip) end = SkipSpaceForward(text, end);
    if (done < begin) on_text(text.substr(done, begin - done));
    on_token(match->id);
    done = end;
    i = std::max(i, done);
  }
  if (done < text.size()) on_text(text.substr(done));
}

void AddedTokens::Split(std::string_view text, const Normalizer& normalizer,
                        const std::function<void(int32_t)>& on_token,
                        const std::function<void(std::string_view)>& on_text) const {
  SplitBy(raw_, text, on_token, [&](std::string_view piece) {
    const std::string normalized = normalizer(piece);
    SplitBy(normalized_, normalized, on_token, on_text);
  });
}

}  // namespace tamias
