// Text to token ids, exactly as transformers' CLIPTokenizer, T5Tokenizer and
// PreTrainedTokenizerFast do when diffusers calls them with padding="max_length", truncation=True.
// Text is UTF-8; invalid UTF-8 throws kInvalidArgument.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tamias {

// Byte-level BPE of CLIP (lower-cased, words end in "</w>"): <|startoftext|> tokens <|endoftext|>.
class ClipTokenizer {
 public:
  // Reads tokenizer.json, or vocab.json and merges.txt, of a tokenizer folder.
  // Throws kNotFound or kInvalidFile.
  static ClipTokenizer Load(const std::filesystem::path& folder);
  // From the text of a tokenizer.json; `source` stands for its path in messages.
  static ClipTokenizer Parse(std::string_view tokenizer_json, const std::string& source);
  ClipTokenizer(ClipTokenizer&&) noexcept;
  ClipTokenizer& operator=(ClipTokenizer&&) noexcept;
  ~ClipTokenizer();

  // Start and end tokens included, cut to max_length with the end token kept, padded to max_length.
  std::vector<int32_t> Encode(std::string_view text, int64_t max_length) const;
  // The same, neither cut nor padded: longer than max_length when Encode would drop words.
  std::vector<int32_t> Tokenize(std::string_view text) const;

  int32_t start_id() const;
  int32_t end_id() const;
  int32_t pad_id() const;
  int32_t vocab_size() const;  // 1 + the largest id

 private:
  struct Model;
  explicit ClipTokenizer(std::unique_ptr<const Model> model);
  std::unique_ptr<const Model> model_;
};

// SentencePiece Unigram of T5 and UMT5: tokens </s>. Characters that it does not know become the
// pieces of their bytes where the vocabulary has byte fallback, else <unk>.
class UnigramTokenizer {
 public:
  // Reads tokenizer.json, or spiece.model, of a tokenizer folder. Throws kNotFound or kInvalidFile.
  static UnigramTokenizer Load(const std::filesystem::path& folder);
  // From the text of a tokenizer.json, or the bytes of a spiece.model.
  static UnigramTokenizer Parse(std::string_view tokenizer_json, const std::string& source);
  static UnigramTokenizer ParseSentencePiece(std::string_view model, const std::string& source);
  UnigramTokenizer(UnigramTokenizer&&) noexcept;
  UnigramTokenizer& operator=(UnigramTokenizer&&) noexcept;
  ~UnigramTokenizer();

  // The end token included, cut to max_length with the end token kept, padded to max_length.
  std::vector<int32_t> Encode(std::string_view text, int64_t max_length) const;
  // The same, neither cut nor padded.
  std::vector<int32_t> Tokenize(std::string_view text) const;

  int32_t end_id() const;
  int32_t pad_id() const;
  int32_t vocab_size() const;  // 1 + the largest id

 private:
  struct Model;
  explicit UnigramTokenizer(std::unique_ptr<const Model> model);
  std::unique_ptr<const Model> model_;
};

// Byte-level BPE of Llama 3 and GPT-2: words by a regular expression, special tokens by a template
// (<|begin_of_text|> tokens). Padding goes to the right and is left to the caller, who has no use
// for it: models of this kind are causal, and attend to the ids given here alone.
class ByteLevelTokenizer {
 public:
  // Reads tokenizer.json of a tokenizer folder. Throws kNotFound, kInvalidFile, or kUnsupported for
  // a regular expression of another engine.
  static ByteLevelTokenizer Load(const std::filesystem::path& folder);
  // From the text of a tokenizer.json; `source` stands for its path in messages.
  static ByteLevelTokenizer Parse(std::string_view tokenizer_json, const std::string& source);
  ByteLevelTokenizer(ByteLevelTokenizer&&) noexcept;
  ByteLevelTokenizer& operator=(ByteLevelTokenizer&&) noexcept;
  ~ByteLevelTokenizer();

  // At most max_length ids, those of the template included: the text is cut, the template is not.
  std::vector<int32_t> Encode(std::string_view text, int64_t max_length) const;
  // The same, not cut.
  std::vector<int32_t> Tokenize(std::string_view text) const;

  int32_t vocab_size() const;  // 1 + the largest id

 private:
  struct Model;
  explicit ByteLevelTokenizer(std::unique_ptr<const Model> model);
  std::unique_ptr<const Model> model_;
};

}  // namespace tamias
