// Cutting by regular expressions: Oniguruma's meaning where PCRE2's is another one, and patterns
// that are wrong, foreign or made to take forever. Agreement with the `tokenizers` library over
// several hundred texts is in tokenizer_test.cc.
#include "io/word_pattern.h"

#include <gmock/gmock.h>

#include <vector>

#include "tests/support/errors.h"
#include "tests/support/test_files.h"

namespace tamias {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> Split(std::string_view pattern, std::string_view text) {
  std::vector<std::string> words;
  WordPattern(pattern, "p").Split(text, [&](std::string_view word) { words.emplace_back(word); });
  return words;
}

TEST(WordPattern, GivesMatchesAndWhatLiesBetween) {
  EXPECT_THAT(Split(R"(\d+)", "ab12c3"), ElementsAre("ab", "12", "c", "3"));
  EXPECT_THAT(Split(R"(\d+)", "12"), ElementsAre("12"));
  EXPECT_THAT(Split(R"(\d+)", "ab"), ElementsAre("ab"));
  EXPECT_THAT(Split(R"(\d+)", ""), ElementsAre());
  EXPECT_THAT(Split(R"((?<=a)b|(?<!a)c)", "abcc"), ElementsAre("a", "b", "c", "c"));
}

TEST(WordPattern, ReadsClassesAsOnigurumaDoes) {
  // The Mongolian vowel separator is no white space, the next line is; marks belong to words.
  EXPECT_THAT(Split(R"(\s+)", "a\u180eb\u0085\u3000\x0b c"),
              ElementsAre("a\u180eb", "\u0085\u3000\x0b ", "c"));
  EXPECT_THAT(Split(R"([\s]+)", "a\u180eb \u2003c"), ElementsAre("a\u180eb", " \u2003", "c"));
  EXPECT_THAT(Split(R"(\S+)", "a\u180e b"), ElementsAre("a\u180e", " ", "b"));
  EXPECT_THAT(Split(R"(\w+)", "e\u0301_1\u00b2 x"), ElementsAre("e\u0301_1", "\u00b2 ", "x"));
  EXPECT_THAT(Split(R"([^\w]+)", "a-\u00b2b"), ElementsAre("a", "-\u00b2", "b"));
  EXPECT_THAT(Split(R"(\D+)", "a1\u0661"), ElementsAre("a", "1\u0661"));
  EXPECT_THAT(Split(R"((?i:'s))", "'S'\u017f"), ElementsAre("'S", "'\u017f"));
  EXPECT_THAT(Split(".+", "a\r\nb"), ElementsAre("a\r", "\n", "b"));
}

TEST(WordPattern, RefusesWhatTheEnginesReadDifferently) {
  const auto refuses = [](std::string_view construct, std::string_view pattern) {
    SCOPED_TRACE(pattern);
    ExpectError(ErrorCode::kUnsupported,
                "p: regular expression: '" + std::string(construct) + "' is not supported",
                [&] { WordPattern(pattern, "p"); });
  };
  for (const char* escape :
       {"\\h", "\\v", "\\A", "\\z", "\\b", "\\G", "\\K", "\\C", "\\x", "\\u", "\\1", "\\X"}) {
    refuses(escape, std::string("a") + escape);
    refuses(escape, std::string("[a") + escape + "]");
  }
  refuses("\\", "a\\");
  refuses("\\S", R"([\S])");
  refuses("[b", "[a[b]]");
  refuses("[:", "[[:alpha:]]");
  refuses("&&", "[a-z&&b]");
  refuses("[]", "[]a]");
  refuses("[]", "[^]a]");
  refuses("^", "^a");
  refuses("$", "a$");
  refuses("(?i", "(?i)a");
  refuses("(?<", "(?<name>a)");
  refuses("(?R", "a(?R)?");
  refuses("(?C", "(?C1)a");
  refuses("(*U", "(*UTF)a");
  refuses("}+", "a{1,3}+");
  refuses("}?", "a{2}?");
  refuses("{,", "a{,3}");
}

TEST(WordPattern, NamesWhatIsWrong) {
  const auto fails = [](std::string_view problem, std::string_view pattern) {
    ExpectError(ErrorCode::kInvalidFile, "p: regular expression: " + std::string(problem),
                [&] { WordPattern(pattern, "p"); });
  };
  fails("missing closing parenthesis", "(a");
  fails("missing terminating ]", "[a");
  fails("quantifier does not follow a repeatable item", "*a");
  fails("unknown property", R"(\p{Nonsense})");
  fails("matches an empty text", "a*");
  fails("matches an empty text", "");
  fails("expected at most 4096 bytes, found 4097", std::string(4097, 'a'));
  fails("parentheses are too deeply nested", std::string(300, '(') + "a" + std::string(300, ')'));
  fails("regular expression is too large", "(?:(?:a{1,999}){1,999}){1,999}");
  EXPECT_THROW(WordPattern("\xff", "p"), Error);
  EXPECT_THROW(WordPattern(R"(\p{L)", "p"), Error);
}

TEST(WordPattern, GivesUpOnPatternsThatTakeForever) {
  // [bc] and not b: PCRE2 knows at once that a letter which must occur does not.
  const std::string text(10000, 'a');
  for (const char* pattern :
       {"(a+)+[bc]", "(?:a|a)+[bc]", "(?:a?a?){60}[bc]", "a*a*a*a*[bc]", "a(?=(a|aa)+[bc])"}) {
    SCOPED_TRACE(pattern);
    ExpectError(ErrorCode::kInvalidFile,
                "p: regular expression: gives up on a text: ", [&] { Split(pattern, text); });
  }
}

}  // namespace
}  // namespace tamias
