#include "io/one_line.h"

#include <gtest/gtest.h>

namespace tamias {
namespace {

TEST(OneLine, EscapesControlCharacters) {
  EXPECT_EQ(OneLine("plain é"), "plain é");
  EXPECT_EQ(OneLine("a\nb\r\x01\x7F"), "a\\nb\\x0d\\x01\\x7f");
  EXPECT_EQ(OneLine(""), "");
}

TEST(OneLine, CutsBetweenCharacters) {
  EXPECT_EQ(OneLine("abcdef", 3), "abc...");
  EXPECT_EQ(OneLine("abcdef", 6), "abcdef");
  EXPECT_EQ(OneLine("aéé", 2), "a...");
  EXPECT_EQ(OneLine("aéé", 3), "aé...");
  EXPECT_EQ(OneLine(std::string(1000, 'x')).size(), 203u);
}

}  // namespace
}  // namespace tamias
