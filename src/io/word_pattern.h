// The regular expression by which a tokenizer cuts text into words. Patterns are written for
// Oniguruma (Ruby's syntax), which the `tokenizers` library uses; they run in PCRE2 as far as both
// mean the same, and what differs is refused by name. Patterns come from files that nobody has
// checked, so the steps of a search are bounded.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace tamias {

class WordPattern {
 public:
  // Throws kUnsupported for constructs outside of the common syntax and kInvalidFile for patterns
  // that are wrong or match an empty text: "source: regular expression: problem".
  WordPattern(std::string_view pattern, const std::string& source);

  // Calls on_word for each match and for each text between two of them, in order. `text` must be
  // valid UTF-8. Throws kInvalidFile when the search takes too many steps.
  void Split(std::string_view text, const std::function<void(std::string_view)>& on_word) const;

 private:
  struct Program;
  std::shared_ptr<const Program> program_;
};

}  // namespace tamias
