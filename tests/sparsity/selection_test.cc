#include "tamias/sparsity/selection.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <set>

#include "ops/mask.h"
#include "tests/support/random_tensors.h"

namespace tamias {
namespace {

std::set<int64_t> Columns(const Tensor& mask, int64_t row) {
  std::set<int64_t> columns;
  for (int64_t j = 0; j < mask.dim(1) * 8; ++j) {
    if ((mask.data<uint8_t>()[row * mask.dim(1) + j / 8] >> (j % 8) & 1) != 0) columns.insert(j);
  }
  return columns;
}

SparseGeometry Geometry(TokenGrid grid, int64_t text) {
  SparseGeometry geometry;
  geometry.grid = grid;
  geometry.text_tokens = text;
  geometry.num_heads = 2;
  return geometry;
}

TEST(RoundedCount, RoundsToTheNearestMultiple) {
  EXPECT_EQ(RoundedCount(0.165, 4132, 112), 672);  // 681.8 -> 6 * 112
  EXPECT_EQ(RoundedCount(0.3, 12288, 256), 3584);  // 3686.4 -> 14 * 256
  EXPECT_EQ(RoundedCount(0.3, 1024, 1), 307);
  EXPECT_EQ(RoundedCount(0.001, 1000, 128), 128);  // at least one multiple
  EXPECT_EQ(RoundedCount(1.0, 1000, 128), 1000);   // at most all
  EXPECT_EQ(RoundedCount(0.0, 1000, 128), 0);
}

TEST(ColumnSelector, KeepsTheLargestSumsTextAndNothingElse) {
  Context context(2);
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(seed);
    SparsityConfig config;
    config.attn.top_keys = 0.2;
    config.attn.random_keys = 0;
    config.attn.counts_multiple_of = 1;
    config.attn.mbm = 48;
    const SparseGeometry geometry = Geometry({1, 11, 9 + static_cast<int64_t>(seed)}, 7);
    const int64_t keys = geometry.joint_tokens();
    const int64_t groups = (geometry.image_tokens() + 47) / 48;
    const auto selector = MakeColumnSelector(config.attn, config.patchify, geometry,
                                             MakeTokenOrder(config.patchify, geometry.grid));
    const Tensor sums = RandomTensor({2 * groups, keys}, seed);
    Tensor mask = Tensor::Zeros({2 * groups, MaskBytes(keys)}, DType::kU8);
    selector->Select(context, {sums.view(), groups, 0}, mask);
    for (int64_t row = 0; row < 2 * groups; ++row) {
      std::vector<int64_t> order(static_cast<size_t>(keys));
      std::iota(order.begin(), order.end(), 0);
      const float* scores = sums.data<float>() + row * keys;
      std::ranges::stable_sort(order, [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
      std::set<int64_t> expected(order.begin(), order.begin() + RoundedCount(0.2, keys, 1));
      for (int64_t j = 0; j < 7; ++j) expected.insert(j);
      EXPECT_EQ(Columns(mask, row), expected);
      EXPECT_LE(static_cast<int64_t>(expected.size()), selector->MaxColumns());
    }
  }
}

TEST(ColumnSelector, RandomColumnsComeAtTheirRateAndWithinTheBound) {
  Context context(2);
  const int64_t keys = 4000;
  const RandomColumns random(keys, 0.05);
  const Tensor sums({64, keys}, DType::kF32);
  Tensor mask = Tensor::Zeros({64, MaskBytes(keys)}, DType::kU8);
  random.Select(context, {sums.view(), 64, 3}, mask);
  int64_t total = 0;
  for (int64_t row = 0; row < 64; ++row) {
    const auto count = static_cast<int64_t>(Columns(mask, row).size());
    EXPECT_LE(count, random.MaxColumns());
    total += count;
  }
  // 64 * 200 expected, standard deviation 110.
  EXPECT_NEAR(static_cast<double>(total), 64 * 200, 600);
  EXPECT_LT(random.MaxColumns(), 400);
}

TEST(ColumnSelector, RandomColumnsDependOnTheSeedAlone) {
  SparsityConfig config;
  config.attn.random_keys = 0.1;
  const SparseGeometry geometry = Geometry({1, 20, 20}, 5);
  const auto selector = MakeColumnSelector(config.attn, config.patchify, geometry,
                                           MakeTokenOrder(config.patchify, geometry.grid));
  const int64_t groups = 3;
  const Tensor sums = RandomTensor({2 * groups, 405}, 9);
  std::vector<Tensor> masks;
  for (const auto& [threads, seed] :
       std::vector<std::pair<int, uint64_t>>{{1, 4}, {3, 4}, {1, 5}}) {
    Context context(threads);
    masks.push_back(Tensor::Zeros({2 * groups, MaskBytes(405)}, DType::kU8));
    selector->Select(context, {.column_sums = sums.view(), .num_groups = groups, .seed = seed},
                     masks.back());
  }
  for (int64_t row = 0; row < 2 * groups; ++row) {
    EXPECT_EQ(Columns(masks[0], row), Columns(masks[1], row));
    EXPECT_NE(Columns(masks[0], row), Columns(masks[2], row));
  }
}

TEST(ColumnSelector, LocalWindowInOneDimensionSurroundsTheGroup) {
  SparsityConfig config;
  config.attn.mbm = 20;
  config.attn.local_1d_window = 0.3;  // 30 of 100 tokens
  const SparseGeometry geometry = Geometry({1, 10, 10}, 4);
  const Tensor mask = StaticColumnMask(config.attn, config.patchify, geometry,
                                       MakeTokenOrder(config.patchify, geometry.grid));
  // Group 2 holds tokens 40 to 59; its window is 35 to 64, after 4 text columns.
  std::set<int64_t> expected = {0, 1, 2, 3};
  for (int64_t j = 35; j < 65; ++j) expected.insert(4 + j);
  EXPECT_EQ(Columns(mask, 2), expected);
  EXPECT_EQ(Columns(mask, 0).size(), 4u + 30);
}

TEST(ColumnSelector, LocalVoxelsAreTheCubeAroundTheGroupsVoxel) {
  SparsityConfig config;
  config.attn.mbm = 192;
  config.attn.local_voxels = 3;
  const TokenGrid grid{12, 18, 40};  // 3 x 3 x 5 voxels
  const SparseGeometry geometry = Geometry(grid, 0);
  const TokenOrder order = MakeTokenOrder(config.patchify, grid);
  const Tensor mask = StaticColumnMask(config.attn, config.patchify, geometry, order);
  const int64_t group = (1 * 3 + 1) * 5 + 2;  // the voxel in the middle
  std::set<int64_t> expected;
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t h = 0; h < 3; ++h) {
      for (int64_t w = 1; w < 4; ++w) {
        for (int64_t i = 0; i < 192; ++i) expected.insert(((t * 3 + h) * 5 + w) * 192 + i);
      }
    }
  }
  EXPECT_EQ(Columns(mask, group), expected);
}

// As published: at a border the cube is shifted inwards and loses nothing.
TEST(ColumnSelector, LocalVoxelsKeepTheirSizeAtTheBorders) {
  SparsityConfig config;
  config.attn.local_voxels = 3;
  const TokenGrid grid{16, 24, 40};  // 4 x 4 x 5 voxels
  const Tensor mask = StaticColumnMask(config.attn, config.patchify, Geometry(grid, 7),
                                       MakeTokenOrder(config.patchify, grid));
  for (const auto& [group, first] : std::vector<std::pair<int64_t, int64_t>>{
           {0, 0},                            // the first corner: voxels 0 to 2 on each axis
           {79, (1 * 4 + 1) * 5 + 2},         // the last one: 1 to 3, and 2 to 4 in width
           {(3 * 4 + 1) * 5 + 2, 1 * 20 + 1}  // a border of time alone
       }) {
    std::set<int64_t> expected = {0, 1, 2, 3, 4, 5, 6};
    for (int64_t voxel = 0; voxel < 27; ++voxel) {
      const int64_t place = first + voxel / 9 * 20 + voxel / 3 % 3 * 5 + voxel % 3;
      for (int64_t i = 0; i < 192; ++i) expected.insert(7 + place * 192 + i);
    }
    EXPECT_EQ(Columns(mask, group), expected) << group;
  }
}

// The published settings of Wan 2.1 give 32.0 % of the columns at 720p and 73.6 % at 480p, of which
// 0.3 points are voxel 0, which the reference adds to every group by mistake.
TEST(ColumnSelector, LocalVoxelsCoverWhatThePublishedSettingsOfWanCover) {
  Context context(1);
  const SparsityConfig config = LoadSparsityConfig(FindProfile("wan-2.1"));
  ASSERT_EQ(config.attn.local_voxels, 5);
  for (const auto& [grid, share] :
       {std::pair{TokenGrid{21, 45, 80}, 0.320}, std::pair{TokenGrid{21, 30, 52}, 0.736}}) {
    const Tensor mask = StaticColumnMask(config.attn, config.patchify, Geometry(grid, 0),
                                         MakeTokenOrder(config.patchify, grid));
    Tensor counts({mask.dim(0)}, DType::kI32);
    CountMask(context, mask, counts);
    for (int64_t group = 0; group < mask.dim(0); ++group) {
      // Tails too: a window is 5x5x5 voxels everywhere.
      ASSERT_EQ(counts.data<int32_t>()[group], 125 * 192) << group;
    }
    EXPECT_NEAR(125.0 * 192 / static_cast<double>(grid.size()), share, 0.004);
  }
}

TEST(ColumnSelector, LocalVoxelsCoverVolumesSmallerThanTheWindow) {
  SparsityConfig config;
  config.attn.local_voxels = 3;
  for (const auto& [grid, columns] : {
           std::pair{TokenGrid{2, 1, 1}, 2},             // less than a voxel
           std::pair{TokenGrid{1, 5, 5}, 25},            // a picture of less than a patch
           std::pair{TokenGrid{4, 6, 8}, 192},           // one voxel
           std::pair{TokenGrid{5, 7, 9}, 5 * 7 * 9},     // one voxel and tails
           std::pair{TokenGrid{3, 40, 50}, 3 * 18 * 24}  // thinner than a voxel
       }) {
    const Tensor mask = StaticColumnMask(config.attn, config.patchify, Geometry(grid, 0),
                                         MakeTokenOrder(config.patchify, grid));
    for (int64_t group = 0; group < mask.dim(0); ++group) {
      EXPECT_EQ(Columns(mask, group).size(), static_cast<size_t>(columns)) << grid.size();
    }
  }
}

// Whatever the size of groups, and in row order: every group sees its own middle.
TEST(ColumnSelector, LocalVoxelsSurroundGroupsOfTailsAndOfRowOrder) {
  for (const bool is_patchified : {true, false}) {
    SparsityConfig config;
    config.attn.local_voxels = 2;
    config.attn.mbm = 50;
    config.patchify.is_enabled = is_patchified;
    const TokenGrid grid{9, 15, 21};
    const TokenOrder order = MakeTokenOrder(config.patchify, grid);
    const Tensor mask = StaticColumnMask(config.attn, config.patchify, Geometry(grid, 0), order);
    for (int64_t group = 0; group < mask.dim(0); ++group) {
      const std::set<int64_t> columns = Columns(mask, group);
      EXPECT_EQ(columns.size(), 8u * 12 * 16) << group;
      std::array<double, 3> own{}, window{};
      const auto add = [&](int64_t position, double weight, std::array<double, 3>& sum) {
        const int64_t token = order.tokens()[static_cast<size_t>(position)];
        sum[0] += weight * static_cast<double>(token / (15 * 21));
        sum[1] += weight * static_cast<double>(token / 21 % 15);
        sum[2] += weight * static_cast<double>(token % 21);
      };
      const int64_t begin = group * 50, end = std::min(begin + 50, grid.size());
      for (int64_t i = begin; i < end; ++i) add(i, 1.0 / static_cast<double>(end - begin), own);
      for (const int64_t column : columns) add(column, 1.0 / (8 * 12 * 16), window);
      const std::array<double, 3> half = {4, 6, 8};
      for (size_t axis = 0; axis < 3; ++axis) {
        EXPECT_LE(std::abs(own[axis] - window[axis]), half[axis]) << group;
      }
    }
  }
}

TEST(ColumnSelector, LocalVoxelsOfAPictureAreItsPatches) {
  SparsityConfig config;
  config.attn.mbm = 64;
  config.attn.local_voxels = 1;
  const SparseGeometry geometry = Geometry({1, 24, 24}, 0);
  const Tensor mask = StaticColumnMask(config.attn, config.patchify, geometry,
                                       MakeTokenOrder(config.patchify, geometry.grid));
  std::set<int64_t> own;
  for (int64_t i = 4 * 64; i < 5 * 64; ++i) own.insert(i);
  EXPECT_EQ(Columns(mask, 4), own);
}

}  // namespace
}  // namespace tamias
