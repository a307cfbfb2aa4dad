// Translates Oniguruma's syntax to PCRE2's and searches within limits.
#include "io/word_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <cctype>

#include "base/check.h"
#include "io/one_line.h"

namespace tamias {
namespace {

constexpr size_t kMaxPatternBytes = 4096;
// Steps of one search, of which honest patterns take a few per byte, and memory of one search.
constexpr uint32_t kMinSteps = 100'000;
constexpr uint32_t kStepsPerByte = 8;
constexpr size_t kMaxTextBytes = size_t{64} << 20;
constexpr uint32_t kMaxHeapKib = 64 * 1024;

template <auto kFree>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using Code = std::unique_ptr<pcre2_code, Freer<pcre2_code_free>>;
using CompileContext = std::unique_ptr<pcre2_compile_context, Freer<pcre2_compile_context_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Freer<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Freer<pcre2_match_data_free>>;

std::string MessageOf(int error) {
  std::array<PCRE2_UCHAR, 160> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

// One pattern on its way from Oniguruma to PCRE2, read from left to right.
class Translation {
 public:
  Translation(std::string_view pattern, const std::string& source)
      : pattern_(pattern), source_(source) {}

  std::string Run() {
    for (at_ = 0; at_ < pattern_.size();) {
      const char c = pattern_[at_];
      if (c == '\\') {
        Escape();
      } else if (in_class_) {
        InClass(c);
      } else {
        Outside(c);
      }
    }
    return std::move(result_);
  }

 private:
  std::string_view Rest() const { return pattern_.substr(at_); }

  void Take(size_t count) {
    result_ += pattern_.substr(at_, count);
    at_ += count;
  }

  [[noreturn]] void Refuse(std::string_view construct) const {
    Fail(ErrorCode::kUnsupported, "{}: regular expression: '{}' is not supported", source_,
         OneLine(construct));
  }

  void Escape() {
    // What \s, \d and \w are in Oniguruma; PCRE2 has one blank more and no marks.
    constexpr std::pair<char, std::string_view> kSets[] = {{'s', "\\t\\n\\x0b\\f\\r\\x{85}\\p{Z}"},
                                                           {'d', "\\p{Nd}"},
                                                           {'w', "\\p{L}\\p{M}\\p{Nd}\\p{Pc}"}};
    const std::string_view escape = Rest().substr(0, 2);
    const char letter = escape.size() == 2 ? escape[1] : '\0';
    for (const auto& [name, members] : kSets) {
      const bool is_negated = letter == name - 'a' + 'A';
      if (letter != name && !is_negated) continue;
      if (in_class_ && is_negated) Refuse(escape);
      if (!in_class_) result_ += is_negated ? "[^" : "[";
      result_ += members;
      if (!in_class_) result_ += ']';
      at_ += 2;
      return;
    }
    const bool is_property = letter == 'p' || letter == 'P';
    const bool is_control = letter == 'r' || letter == 'n' || letter == 't' || letter == 'f';
    const bool is_punctuation = std::ispunct(static_cast<unsigned char>(letter)) != 0;
    if (is_property && Rest().substr(2).starts_with('{')) {
      Take(std::min(Rest().find('}'), Rest().size() - 1) + 1);
    } else if (is_control || is_punctuation) {
      Take(2);
    } else {
      Refuse(escape);
    }
  }

  void InClass(char c) {
    if (c == '[' || Rest().starts_with("&&")) Refuse(Rest().substr(0, 2));
    in_class_ = c != ']';
    Take(1);
  }

  void Outside(char c) {
    if (c == '^' || c == '$') Refuse(Rest().substr(0, 1));
    if (Rest().starts_with("}+") || Rest().starts_with("}?") || Rest().starts_with("{,")) {
      Refuse(Rest().substr(0, 2));
    }
    if (c == '[') {
      in_class_ = true;
      Take(Rest().starts_with("[^") ? 2 : 1);
      if (Rest().starts_with(']')) Refuse("[]");
    } else if (Rest().starts_with("(?") || Rest().starts_with("(*")) {
      TakeGroup();
    } else {
      Take(1);
    }
  }

  void TakeGroup() {
    for (const std::string_view group : {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
      if (Rest().starts_with(group)) return Take(group.size());
    }
    Refuse(Rest().substr(0, 3));
  }

  std::string_view pattern_;
  const std::string& source_;
  std::string result_;
  size_t at_ = 0;
  bool in_class_ = false;
};

}  // namespace

struct WordPattern::Program {
  Code code;
  std::string source;
};

WordPattern::WordPattern(std::string_view pattern, const std::string& source) {
  const auto fail = [&](std::string_view problem) {
    Fail(ErrorCode::kInvalidFile, "{}: regular expression: {}", source, problem);
  };
  if (pattern.size() > kMaxPatternBytes) {
    fail(fmt::format("expected at most {} bytes, found {}", kMaxPatternBytes, pattern.size()));
  }
  const std::string translated = Translation(pattern, source).Run();
  const CompileContext context(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);  // what '.' does not match
  int error = 0;
  PCRE2_SIZE offset = 0;
  Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                          PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C, &error, &offset, context.get()));
  if (code == nullptr) fail(MessageOf(error));
  uint32_t matches_empty = 0;
  pcre2_pattern_info(code.get(), PCRE2_INFO_MATCHEMPTY, &matches_empty);
  if (matches_empty != 0) fail("matches an empty text");
  program_ = std::make_shared<const Program>(Program{std::move(code), source});
}

void WordPattern::Split(std::string_view text,
                        const std::function<void(std::string_view)>& on_word) const {
  if (text.size() > kMaxTextBytes) {
    Fail(ErrorCode::kInvalidArgument, "text: expected at most {} bytes, found {}", kMaxTextBytes,
         text.size());
  }
  const MatchContext limits(pcre2_match_context_create(nullptr));
  pcre2_set_match_limit(limits.get(),
                        kMinSteps + kStepsPerByte * static_cast<uint32_t>(text.size()));
  pcre2_set_heap_limit(limits.get(), kMaxHeapKib);
  const MatchData match(pcre2_match_data_create(1, nullptr));
  for (size_t begin = 0; begin < text.size();) {
    const int found =
        pcre2_match(program_->code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                    begin, PCRE2_NO_UTF_CHECK, match.get(), limits.get());
    if (found == PCRE2_ERROR_NOMATCH) return on_word(text.substr(begin));
    if (found < 0) {
      Fail(ErrorCode::kInvalidFile, "{}: regular expression: gives up on a text: {}",
           program_->source, MessageOf(found));
    }
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match.get());
    if (bounds[0] > begin) on_word(text.substr(begin, bounds[0] - begin));
    on_word(text.substr(bounds[0], bounds[1] - bounds[0]));
    begin = bounds[1];
  }
}

}  // namespace tamias
