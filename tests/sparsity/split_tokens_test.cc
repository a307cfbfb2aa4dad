#include "sparsity/split_tokens.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/errors.h"

namespace tamias {
namespace {

SparseGeometry GeometryOf(int64_t text, int64_t image, int64_t heads = 24) {
  SparseGeometry geometry;
  geometry.text_tokens = text;
  geometry.grid = {1, 1, image};
  geometry.num_heads = heads;
  return geometry;
}

SparsityConfig ConfigOf(int64_t mlp_group) {
  SparsityConfig config = SparsityConfig::Dense();
  config.mlp.is_enabled = mlp_group > 0;
  config.mlp.mbm = mlp_group;
  return config;
}

using Bounds = std::vector<int64_t>;

TEST(SplitTokens, GivesTheFirstTheTextAndAllAsManyTokens) {
  EXPECT_EQ(SplitTokens(ConfigOf(0), GeometryOf(512, 4096), 4), (Bounds{0, 640, 1792, 2944, 4096}));
  EXPECT_EQ(SplitTokens(ConfigOf(0), GeometryOf(0, 10), 3), (Bounds{0, 3, 6, 10}));
}

TEST(SplitTokens, CutsNoGroupOfASparseMlp) {
  EXPECT_EQ(SplitTokens(ConfigOf(128), GeometryOf(512, 4096), 8),
            (Bounds{0, 128, 640, 1280, 1792, 2432, 2944, 3584, 4096}));
  EXPECT_EQ(SplitTokens(ConfigOf(16), GeometryOf(0, 33), 2), (Bounds{0, 16, 33}));
}

TEST(SplitTokens, LeavesEachAGroupOfTheImage) {
  EXPECT_EQ(SplitTokens(ConfigOf(16), GeometryOf(1000, 50), 4), (Bounds{0, 16, 32, 48, 50}));
}

TEST(SplitTokens, RefusesWhatCannotBeShared) {
  const auto error_of = [](const SparseGeometry& geometry, int ranks) {
    return ArgumentErrorOf([&] { SplitTokens(ConfigOf(16), geometry, ranks); });
  };
  EXPECT_EQ(
      error_of(GeometryOf(0, 1024), 5),
      "device: expected a number of GPUs for each call of the transformer that divides its 24 "
      "heads (num_attention_heads), found 5");
  EXPECT_EQ(error_of(GeometryOf(0, 40), 4),
            "device: expected at most 3 GPUs for each call of the transformer (40 image tokens in "
            "groups of 16), found 4");
}

}  // namespace
}  // namespace tamias
