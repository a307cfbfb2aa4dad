#include "tamias/text.h"

#include <gtest/gtest.h>

#include <array>

namespace tamias {
namespace {

constexpr std::array<std::string_view, 4> kKnown = {"top_keys", "random_keys", "full_step_every",
                                                    "mbm"};

TEST(NearestName, FindsMisspellings) {
  EXPECT_EQ(NearestName("top_key", kKnown), "top_keys");
  EXPECT_EQ(NearestName("topkeys", kKnown), "top_keys");
  EXPECT_EQ(NearestName("tpo_keys", kKnown), "top_keys");
  EXPECT_EQ(NearestName("randomkey", kKnown), "random_keys");
  EXPECT_EQ(NearestName("full_steps_evry", kKnown), "full_step_every");
  EXPECT_EQ(NearestName("top_keys", kKnown), "top_keys");
}

TEST(NearestName, IsEmptyWhenNothingIsNear) {
  EXPECT_EQ(NearestName("colour", kKnown), "");
  EXPECT_EQ(NearestName("", kKnown), "");
  EXPECT_EQ(NearestName(std::string(100000, 'x'), kKnown), "");
  EXPECT_EQ(NearestName("top_keys", {}), "");
}

}  // namespace
}  // namespace tamias
