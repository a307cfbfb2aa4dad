#include "io/json.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "io/json_text.h"
#include "io/mapped_file.h"
#include "tests/support/errors.h"
#include "tests/support/test_files.h"

namespace tamias {
namespace {

using ::testing::ElementsAre;

JsonObject Example() {
  return JsonObject::Parse(R"({
    "layers": 19, "ratio": 4.5, "whole": 2, "gated": true, "name": "flux", "none": null,
    "axes": [16, 56, 56], "scales": [1, 0.5], "words": ["a", "b"], "mixed": [1, "b"], "flags": [true, false],
    "vae": {"channels": 16, "blocks": [{"size": 1}, {"size": -2}]}
  })",
                           "config.json");
}

TEST(JsonObject, ReadsEachType) {
  const JsonObject config = Example();
  EXPECT_EQ(config.Int("layers", {.min = 0, .max = 19}), 19);
  EXPECT_EQ(config.Float("ratio"), 4.5);
  EXPECT_EQ(config.Float("whole", {.min = 2, .max = 2}), 2);
  EXPECT_TRUE(config.Bool("gated"));
  EXPECT_EQ(config.String("name"), "flux");
  EXPECT_THAT(config.IntArray("axes"), ElementsAre(16, 56, 56));
  EXPECT_THAT(config.FloatArray("scales"), ElementsAre(1, 0.5));
  EXPECT_THAT(config.BoolArray("flags"), ElementsAre(true, false));
  EXPECT_THAT(config.StringArray("words"), ElementsAre("a", "b"));
  EXPECT_EQ(config.Object("vae").Int("channels"), 16);
  EXPECT_EQ(config.Object("vae").ObjectArray("blocks")[1].Int("size"), -2);
  EXPECT_EQ(config.source(), "config.json");
  EXPECT_THAT(config.Object("vae").Keys(), ElementsAre("blocks", "channels"));
  EXPECT_EQ(config.Object("vae").raw().size(), 2u);
}

TEST(JsonObject, TreatsNullAsAbsent) {
  const JsonObject config = Example();
  EXPECT_FALSE(config.Has("none"));
  EXPECT_FALSE(config.Has("other"));
  EXPECT_TRUE(config.Has("layers"));
  EXPECT_EQ(config.IntOr("none", 7), 7);
  ExpectError(ErrorCode::kInvalidFile, "config.json: field 'none': missing",
              [&] { config.Int("none"); });
}

TEST(JsonObject, ChecksPresentFieldsEvenWithAFallback) {
  const JsonObject config = Example();
  EXPECT_EQ(config.FloatOr("x", 0.5), 0.5);
  EXPECT_EQ(config.BoolOr("x", true), true);
  EXPECT_EQ(config.StringOr("x", "y"), "y");
  EXPECT_THAT(config.IntArrayOr("x", {1, 2}), ElementsAre(1, 2));
  EXPECT_THAT(config.StringArrayOr("x", {"z"}), ElementsAre("z"));
  EXPECT_EQ(config.FloatOr("ratio", 0), 4.5);
  EXPECT_EQ(config.BoolOr("gated", false), true);
  EXPECT_EQ(config.StringOr("name", ""), "flux");
  EXPECT_THAT(config.IntArrayOr("axes", {}), ElementsAre(16, 56, 56));
  EXPECT_THAT(config.StringArrayOr("words", {}), ElementsAre("a", "b"));
  ExpectError(ErrorCode::kInvalidFile, "field 'layers': expected an integer in [0, 10], found 19",
              [&] { config.IntOr("layers", 1, {.min = 0, .max = 10}); });
}

TEST(JsonObject, NamesFieldExpectedAndFound) {
  const JsonObject config = Example();
  const auto fails = [&](std::string_view text, auto body) {
    ExpectError(ErrorCode::kInvalidFile, text, body);
  };
  fails("config.json: field 'name': expected an integer >= 1, found \"flux\"",
        [&] { config.Int("name", {.min = 1}); });
  fails("field 'layers': expected an integer <= 3, found 19",
        [&] { config.Int("layers", {.max = 3}); });
  fails("field 'ratio': expected an integer, found 4.5", [&] { config.Int("ratio"); });
  fails("field 'ratio': expected a number in [0, 1], found 4.5",
        [&] { config.Float("ratio", {.min = 0, .max = 1}); });
  fails("field 'ratio': expected a number >= 5", [&] { config.Float("ratio", {.min = 5}); });
  fails("field 'ratio': expected a number <= 4", [&] { config.Float("ratio", {.max = 4}); });
  fails("field 'name': expected a number, found", [&] { config.Float("name"); });
  fails("field 'name': expected true or false", [&] { config.Bool("name"); });
  fails("field 'layers': expected a string, found 19", [&] { config.String("layers"); });
  fails("field 'layers': expected an array of integers", [&] { config.IntArray("layers"); });
  fails("field 'mixed[1]': expected an integer, found \"b\"", [&] { config.IntArray("mixed"); });
  fails("field 'mixed[1]': expected a number", [&] { config.FloatArray("mixed"); });
  fails("field 'mixed[0]': expected true or false", [&] { config.BoolArray("mixed"); });
  fails("field 'mixed[0]': expected a string", [&] { config.StringArray("mixed"); });
  fails("field 'axes': expected an object, found an array of 3", [&] { config.Object("axes"); });
  fails("field 'axes[0]': expected an object", [&] { config.ObjectArray("axes"); });
  fails("field 'vae.blocks[1].size': expected an integer >= 0, found -2",
        [&] { config.Object("vae").ObjectArray("blocks")[1].Int("size", {.min = 0}); });
  fails("field 'vae': expected an integer, found an object", [&] { config.Int("vae"); });
}

TEST(JsonObject, KeepsMessagesToOneLine) {
  const JsonObject config = JsonObject::Parse("{\"a\\nb\\u0001\": 1}", "c.json");
  ExpectError(ErrorCode::kInvalidFile, "c.json: field 'a\\nb\\x01': expected a string, found 1",
              [&] { config.String(config.Keys()[0]); });
}

TEST(JsonObject, RefusesNumbersThatDoNotFit) {
  const JsonObject config =
      JsonObject::Parse(R"({"a": 18446744073709551615, "b": -9223372036854775808})", "c");
  ExpectError(ErrorCode::kInvalidFile, "field 'a': expected an integer, found 1844674407370955161",
              [&] { config.Int("a"); });
  EXPECT_EQ(config.Int("b"), std::numeric_limits<int64_t>::min());
}

TEST(JsonObject, RefusesWhatIsNotOneObject) {
  for (const char* text : {"",
                           "[]",
                           "3",
                           "{",
                           "{\"a\": }",
                           "{} {}",
                           "{\"a\": 1e999}",
                           "{'a': 1}",
                           "{\"a\": nan}",
                           "{\"a\": -NaN}",
                           "{\"a\": +Infinity}",
                           "{\"a\": Inf}",
                           "{\"a\": NaNa}",
                           "{NaN: 1}",
                           "NaN",
                           "{\"a\": 1NaN}",
                           "{\"a\": 1,}",
                           "{\"a\": \"\xff\"}",
                           "{\"a\": \"\\ud800\"}",
                           "\xEF\xBB"}) {
    SCOPED_TRACE(text);
    ExpectError(ErrorCode::kInvalidFile, "c.json: ", [&] { JsonObject::Parse(text, "c.json"); });
  }
}

TEST(JsonObject, JudgesNumbersThatAreNotFiniteWhenTheyAreRead) {
  const JsonObject config = JsonObject::Parse(
      R"({"a": -Infinity, "b": [1, NaN], "c": Infinity, "d": {"e": NaN}, "layers": 3,
          "text": "NaN, \"Infinity\" \\", "not a finite number #0": "not a finite number #1"})",
      "c.json");
  EXPECT_EQ(config.Int("layers"), 3);
  EXPECT_EQ(config.String("text"), "NaN, \"Infinity\" \\");
  EXPECT_EQ(config.String("not a finite number #0"), "not a finite number #1");
  const auto fails = [&](std::string_view text, auto body) {
    ExpectError(ErrorCode::kInvalidFile, text, body);
  };
  fails("c.json: field 'a': expected a number, found -Infinity", [&] { config.Float("a"); });
  fails("c.json: field 'a': expected an integer, found -Infinity", [&] { config.IntOr("a", 1); });
  fails("c.json: field 'b[1]': expected a number, found NaN", [&] { config.FloatArray("b"); });
  fails("c.json: field 'c': expected a number in [0, 1], found Infinity",
        [&] { config.FloatOr("c", 1, {.min = 0, .max = 1}); });
  fails("field 'c': expected a string, found Infinity", [&] { config.String("c"); });
  fails("field 'd.e': expected true or false, found NaN", [&] { config.Object("d").Bool("e"); });
}

TEST(JsonObject, RefusesRepeatedKeysAndDeepNesting) {
  ExpectError(ErrorCode::kInvalidFile, "c.json: key \"a\" occurs twice",
              [] { JsonObject::Parse(R"({"b": {"a": 1}, "a": 1, "a": 2})", "c.json"); });
  EXPECT_NO_THROW(JsonObject::Parse(R"({"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]})", "c.json"));
  std::string deep = "{\"a\": ";
  for (int i = 0; i < 100000; ++i) deep += '[';
  ExpectError(ErrorCode::kInvalidFile, "c.json: nested more than 64 levels deep",
              [&] { JsonObject::Parse(deep, "c.json"); });
}

TEST(JsonObject, LoadSaysWhatLiesInTheFilesPlace) {
  const TemporaryFolder folder;
  const auto fails = [&](std::string_view text, std::string_view bytes) {
    WriteBytes(folder / "config.json", bytes);
    ExpectError(ErrorCode::kInvalidFile, text, [&] { JsonObject::Load(folder / "config.json"); });
  };
  fails("config.json: empty, not JSON", "");
  fails("config.json: this is a Git LFS pointer", "version https://git-lfs.github.com/spec/v1\n");
  fails("config.json: this is an HTML page", "\n <HTML><body>404</body>");
  fails("config.json: this is gzip data", "\x1F\x8B\x08");
}

TEST(JsonObject, LoadNamesTheFile) {
  const TemporaryFolder folder;
  const auto path = WriteBytes(folder / "config.json", R"({"a": 3})");
  EXPECT_EQ(JsonObject::Load(path).Int("a"), 3);
  ExpectError(ErrorCode::kNotFound, "none.json: cannot open: No such file or directory",
              [&] { JsonObject::Load(folder / "none.json"); });
  ExpectError(ErrorCode::kIo, "cannot read: Is a directory",
              [&] { JsonObject::Load(folder.path()); });
  WriteBytes(folder / "bad.json", "{\"a\"\n: x}");
  ExpectError(ErrorCode::kInvalidFile, "bad.json: not JSON: parse error at line 2",
              [&] { JsonObject::Load(folder / "bad.json"); });
}

TEST(JsonObject, TellsACutOffFileInOneShortLine) {
  const std::string longest(100'000, 'x');
  const std::string texts[] = {"{\"a\": [1, ", "{\"a\": \"" + longest, "{"};
  for (const std::string& text : texts) {
    const std::string message =
        ErrorOf([&] { ParseJson(text, "t.json"); }, ErrorCode::kInvalidFile);
    EXPECT_TRUE(message.starts_with("t.json: not JSON, cut off: ")) << message.substr(0, 300);
    EXPECT_LT(message.size(), 300u);
  }
  const std::string digits(100'000, '7');
  EXPECT_LT(ErrorOf([&] { ParseJson("[" + digits + "e999]", "t.json"); }).size(), 300u);
  EXPECT_EQ(ErrorOf([&] { ParseJson("{\"a\"; 1}", "t.json"); }).find("cut off"), std::string::npos);
}

// Nobody writes to it: neither waited for nor read.
TEST(JsonObject, DoesNotWaitForAPipe) {
  const TemporaryFolder folder;
  ASSERT_EQ(mkfifo((folder / "config.json").c_str(), 0600), 0);
  ExpectError(ErrorCode::kInvalidFile, "config.json: empty",
              [&] { JsonObject::Load(folder / "config.json"); });
  EXPECT_THROW(MappedFile(folder / "config.json"), Error);
}

}  // namespace
}  // namespace tamias
