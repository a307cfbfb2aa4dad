// Added tokens ("<|endoftext|>", "</s>"): words that are found in the text before, or after, it is
// normalised, and that become one id each whatever the model would do with them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"

namespace tamias {

struct AddedToken {
  std::string content;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool normalized = false;   // sought in the normalised text
};

// What tokenizer_config.json, special_tokens_map.json and added_tokens.json of a folder, and the
// "added_tokens" of tokenizer.json, say about tokens; merged as transformers 5 merges them.
struct TokenizerConfig {
  std::map<int64_t, AddedToken> added;                          // by id
  std::map<std::string, AddedToken, std::less<>> named_tokens;  // "bos_token" -> ...
  std::vector<AddedToken> extra;
  int64_t extra_ids = 100;  // T5: how many <extra_id_N> there are

  // `tokenizer_json`: null when there is none. Throws kInvalidFile.
  static TokenizerConfig Load(const std::filesystem::path& folder,
                              const JsonObject* tokenizer_json);
  // What tokenizer.json alone says.
  static TokenizerConfig FromJson(const JsonObject& tokenizer_json);
  // Content of a named token, or the fallback.
  std::string Content(std::string_view name, std::string fallback) const;
};

// The tokens of one tokenizer with their ids.
class AddedTokens {
 public:
  using Normalizer = std::function<std::string(std::string_view)>;

  // The first token of a content wins. `id` is the model's, or empty: the next one above
  // all ids so far, starting at vocab_size.
  void Add(const AddedToken& token, std::optional<int32_t> id, int32_t vocab_size,
           const Normalizer& normalizer);

  std::optional<int32_t> Find(std::string_view content) const;
  int32_t max_id() const { return max_id_; }  // -1 when there is none

  // Calls on_token(id) and on_text(normalised piece) in the order of the text.
  void Split(std::string_view text, const Normalizer& normalizer,
             const std::function<void(int32_t)>& on_token,
             const std::function<void(std::string_view)>& on_text) const;

 private:
  struct Pattern {
    std::string text;  // as it is sought
    AddedToken token;
    int32_t id;
  };
  static void SplitBy(const std::vector<Pattern>& patterns, std::string_view text,
                      const std::function<void(int32_t)>& on_token,
                      const std::function<void(std::string_view)>& on_text);

  std::map<std::string, int32_t, std::less<>> ids_;
  int32_t max_id_ = -1;
  std::vector<Pattern> raw_;         // sought in the text as given
  std::vector<Pattern> normalized_;  // sought in the normalised text
};

}  // namespace tamias
