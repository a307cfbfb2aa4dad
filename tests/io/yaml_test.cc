#include "io/yaml.h"

#include <gmock/gmock.h>

#include <map>

#include "tests/support/errors.h"
#include "tests/support/test_files.h"

namespace tamias {
namespace {

using ::testing::ElementsAre;

std::map<std::string, YamlNode> Entries(std::string_view text) {
  std::map<std::string, YamlNode> entries;
  for (auto& [name, node] : YamlNode::Parse(text, "c.yml").Entries()) entries.emplace(name, node);
  return entries;
}

void ExpectInvalid(std::string_view message, std::string_view text) {
  SCOPED_TRACE(text);
  ExpectError(ErrorCode::kInvalidFile, message, [&] { YamlNode::Parse(text, "c.yml"); });
}

TEST(YamlNode, ReadsScalarsWithTheirLines) {
  const auto entries = Entries(
      "steps: 50  # of the schedule\n\nratio: 1e-3\nhalf: .5\nplus: +3\n"
      "minus: -3\nflag: yes\noff: False\nname: lse\nquoted: \"7\"\n");
  EXPECT_EQ(entries.at("steps").Int({.min = 1}), 50);
  EXPECT_EQ(entries.at("steps").Float(), 50);
  EXPECT_EQ(entries.at("steps").line(), 1);
  EXPECT_EQ(entries.at("steps").key(), "steps");
  EXPECT_EQ(entries.at("ratio").Float({.min = 0, .max = 1}), 1e-3);
  EXPECT_EQ(entries.at("ratio").line(), 3);
  EXPECT_EQ(entries.at("half").Float(), 0.5);
  EXPECT_EQ(entries.at("plus").Int(), 3);
  EXPECT_EQ(entries.at("minus").Int(), -3);
  EXPECT_TRUE(entries.at("flag").Bool());
  EXPECT_FALSE(entries.at("off").Bool());
  EXPECT_EQ(entries.at("name").String(), "lse");
  EXPECT_EQ(entries.at("quoted").String(), "7");
  EXPECT_TRUE(entries.at("name").IsScalar());
}

TEST(YamlNode, ReadsListsAndSets) {
  const auto entries = Entries(
      "list: [0, 1, 10, 40]\nset: !!set {7, 11, 13}\nblock: !!set\n  ? 3\n  ? 1\n"
      "empty: []\nempty_set: !!set {}\nmap: {}\nlines:\n  - 4\n  - 5\nnone:\n");
  EXPECT_THAT(entries.at("list").IntList({.min = 0}), ElementsAre(0, 1, 10, 40));
  EXPECT_THAT(entries.at("set").IntList(), ElementsAre(7, 11, 13));
  EXPECT_THAT(entries.at("block").IntList(), ElementsAre(3, 1));
  EXPECT_THAT(entries.at("empty").IntList(), ElementsAre());
  EXPECT_THAT(entries.at("empty_set").IntList(), ElementsAre());
  EXPECT_THAT(entries.at("lines").IntList(), ElementsAre(4, 5));
  EXPECT_TRUE(entries.at("set").IsSet());
  EXPECT_TRUE(entries.at("set").IsMap());
  EXPECT_TRUE(entries.at("empty_set").IsSet());
  EXPECT_FALSE(entries.at("map").IsSet());
  EXPECT_TRUE(entries.at("list").IsList());
  EXPECT_TRUE(entries.at("none").IsNull());
  EXPECT_EQ(entries.at("none").line(), 12);
}

TEST(YamlNode, NamesFileLineAndKey) {
  const auto entries = Entries(
      "attn:\n  top_keys: much\n  steps:\n    - 1\n    - two\n  set: !!set {1, x}\n"
      "quoted: \"7\"\nbig: 99999999999999999999\nfloat: 1.5\ninf: inf\nnan: .nan\nnone:\n");
  std::map<std::string, YamlNode> attn;
  for (auto& [name, node] : entries.at("attn").Entries()) attn.emplace(name, node);
  const auto fails = [](std::string_view text, auto body) {
    ExpectError(ErrorCode::kInvalidFile, text, body);
  };
  fails("c.yml:2: key 'attn.top_keys': expected a number in [0, 1], found 'much'",
        [&] { attn.at("top_keys").Float({.min = 0, .max = 1}); });
  fails("c.yml:5: key 'attn.steps[1]': expected an integer, found 'two'",
        [&] { attn.at("steps").IntList(); });
  fails("c.yml:4: key 'attn.steps[0]': expected an integer >= 2, found '1'",
        [&] { attn.at("steps").IntList({.min = 2}); });
  fails("c.yml:6: key 'attn.set.x': expected an integer as an element of a set",
        [&] { attn.at("set").IntList(); });
  fails("c.yml:7: key 'quoted': expected an integer, found '7'",
        [&] { entries.at("quoted").Int(); });
  fails("key 'quoted': expected true or false", [&] { entries.at("quoted").Bool(); });
  fails("key 'big': expected an integer", [&] { entries.at("big").Int(); });
  fails("key 'float': expected an integer <= 7, found '1.5'",
        [&] { entries.at("float").Int({.max = 7}); });
  fails("key 'float': expected a number <= 1, found",
        [&] { entries.at("float").Float({.max = 1}); });
  fails("key 'inf': expected a number", [&] { entries.at("inf").Float(); });
  fails("key 'nan': expected a number", [&] { entries.at("nan").Float(); });
  fails("c.yml:12: key 'none': expected a string, found nothing",
        [&] { entries.at("none").String(); });
  fails("expected true or false, found a map", [&] { entries.at("attn").Bool(); });
  fails("expected a number, found a list of 2", [&] { attn.at("steps").Float(); });
  fails("expected a list or a set of integers, found 'much'",
        [&] { attn.at("top_keys").IntList(); });
  fails("expected a map, found 'much'", [&] { attn.at("top_keys").Entries(); });
  fails("c.yml:2: key 'attn.top_keys': unknown", [&] { attn.at("top_keys").Fail("unknown"); });
  fails("c.yml:1: expected a map, found a list of 1",
        [] { YamlNode::Parse("[1]", "c.yml").Entries(); });
}

TEST(YamlNode, KeepsKeysThatContainADot) {
  const auto entries = Entries("offloading:\n  attn.out_cache: true\n");
  EXPECT_EQ(entries.at("offloading").Entries()[0].first, "attn.out_cache");
  EXPECT_EQ(entries.at("offloading").Entries()[0].second.key(), "offloading.attn.out_cache");
}

TEST(YamlNode, TakesAnEmptyFileForAnEmptyMap) {
  for (const char* text : {"", "\n", "# only a comment\n", "---\n", "{}", "~"}) {
    SCOPED_TRACE(text);
    EXPECT_TRUE(YamlNode::Parse(text, "c.yml").Entries().empty());
  }
}

TEST(YamlNode, RefusesWhatItDoesNotSupport) {
  ExpectInvalid("c.yml:2: key 'a' occurs twice", "a: 1\na: 2\n");
  ExpectInvalid("c.yml:1: anchors are not supported", "a: &x 1\n");
  ExpectInvalid("c.yml:1: anchors are not supported", "&x a: 1\n");
  ExpectInvalid("are not supported", "a: &x [1]\nb: *x\n");
  ExpectInvalid("expected a plain key", "? [1]\n: 2\n");
  ExpectInvalid("expected a plain key", "~: 2\n");
  ExpectInvalid("c.yml: more than one document", "a: 1\n---\nb: 2\n");
  ExpectInvalid("c.yml:2: not YAML: ", "a: [1\nb: 2\n");
  ExpectInvalid("not YAML: ", "a: 1\n\tb: 2\n");
  ExpectInvalid("nested more than 32 levels deep", std::string(100, '[') + std::string(100, ']'));
  ExpectInvalid("larger than 1048576 bytes", std::string((1 << 20) + 1, ' '));
}

TEST(YamlNode, LoadNamesTheFile) {
  const TemporaryFolder folder;
  const auto path = WriteBytes(folder / "c.yml", "a: 1\n");
  EXPECT_EQ(YamlNode::Load(path).Entries()[0].second.Int(), 1);
  ExpectError(ErrorCode::kNotFound, "none.yml: cannot open",
              [&] { YamlNode::Load(folder / "none.yml"); });
}

}  // namespace
}  // namespace tamias
