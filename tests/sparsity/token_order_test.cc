#include "tamias/sparsity/token_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tamias/error.h"
#include "tests/support/compare_tensors.h"
#include "tests/support/random_tensors.h"

namespace tamias {
namespace {

void ExpectPermutation(const TokenOrder& order, int64_t size) {
  ASSERT_EQ(order.size(), size);
  const std::set<int32_t> seen(order.tokens().begin(), order.tokens().end());
  EXPECT_EQ(static_cast<int64_t>(seen.size()), size);
  for (int32_t i = 0; i < size; ++i) {
    EXPECT_EQ(order.positions()[static_cast<size_t>(order.tokens()[static_cast<size_t>(i)])], i);
  }
}

TEST(TokenOrder, PatchesVisitOuterThenInnerPatches) {
  // 4x4 tokens, patches of 4 and of 2.
  const TokenOrder order = TokenOrder::Patches({1, 4, 4}, 4, 2);
  const std::vector<int32_t> expected = {0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15};
  EXPECT_TRUE(std::ranges::equal(order.tokens(), expected));
}

TEST(TokenOrder, CutOffPatchesFollowTheWholeOnes) {
  // 3x5 tokens, patches of 2: two whole ones, the right edge, the bottom.
  const TokenOrder order = TokenOrder::Patches({1, 3, 5}, 2, 1);
  const std::vector<int32_t> expected = {0, 1, 5, 6, 2, 3, 7, 8, 4, 9, 10, 11, 12, 13, 14};
  EXPECT_TRUE(std::ranges::equal(order.tokens(), expected));
}

TEST(TokenOrder, EachWholePatchIsOneRunOfTokens) {
  const TokenGrid grid{1, 33, 47};
  const TokenOrder order = TokenOrder::Patches(grid, 8, 4);
  const int64_t whole = (33 / 8) * (47 / 8);
  for (int64_t patch = 0; patch < whole; ++patch) {
    std::set<std::pair<int64_t, int64_t>> places;
    for (int64_t i = patch * 64; i < (patch + 1) * 64; ++i) {
      const int64_t token = order.tokens()[static_cast<size_t>(i)];
      places.insert({token / 47 / 8, token % 47 / 8});
    }
    EXPECT_EQ(places.size(), 1u);
  }
}

TEST(TokenOrder, VoxelsOf192TokensAreRunsAndTailsFollowInOrder) {
  const TokenGrid grid{5, 7, 9};  // one whole voxel of 4x6x8
  const TokenOrder order = TokenOrder::Voxels(grid);
  ExpectPermutation(order, grid.size());
  const auto place = [&](int64_t position) {
    const int64_t token = order.tokens()[static_cast<size_t>(position)];
    return std::array<int64_t, 3>{token / 63, token / 9 % 7, token % 9};
  };
  for (int64_t i = 0; i < 192; ++i) {
    EXPECT_TRUE(place(i)[0] < 4 && place(i)[1] < 6 && place(i)[2] < 8) << i;
  }
  for (int64_t i = 192; i < 192 + 63; ++i) EXPECT_EQ(place(i)[0], 4) << "time tail " << i;
  for (int64_t i = 255; i < 255 + 4 * 9; ++i) EXPECT_EQ(place(i)[1], 6) << "height tail " << i;
  for (int64_t i = 291; i < 315; ++i) EXPECT_EQ(place(i)[2], 8) << "width tail " << i;
}

TEST(TokenOrder, InvertUndoesApplyOnGridsOfAnySize) {
  Context context(2);
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);
    const auto pick = [&](uint64_t index, int64_t limit) {
      return 1 + static_cast<int64_t>(CounterRandom(seed, index)) % limit;
    };
    const TokenGrid grid{seed % 2 == 0 ? 1 : pick(0, 9), pick(1, 40), pick(2, 40)};
    const TokenOrder order = grid.time == 1
                                 ? TokenOrder::Patches(grid, pick(3, 12), pick(4, 6))
                                 : TokenOrder::Voxels(grid, {pick(5, 5), pick(6, 7), pick(7, 9)});
    ExpectPermutation(order, grid.size());
    const Tensor input = RandomTensor({2, grid.size(), 3}, seed);
    Tensor ordered(input.shape(), DType::kF32);
    Tensor restored(input.shape(), DType::kF32);
    order.Apply(context, input, ordered);
    order.Invert(context, ordered, restored);
    EXPECT_EQ(RelativeL2(restored, input), 0);
    EXPECT_EQ(ordered.data<float>()[3], input.data<float>()[order.tokens()[1 % order.size()] * 3]);
  }
}

TEST(TokenOrder, FollowsTheConfiguration) {
  SparsityConfig config;
  EXPECT_TRUE(std::ranges::equal(MakeTokenOrder(config.patchify, {1, 16, 16}).tokens(),
                                 TokenOrder::Patches({1, 16, 16}, 8, 4).tokens()));
  EXPECT_TRUE(std::ranges::equal(MakeTokenOrder(config.patchify, {4, 6, 8}).tokens(),
                                 TokenOrder::Voxels({4, 6, 8}).tokens()));
  config.patchify.is_enabled = false;
  EXPECT_TRUE(std::ranges::equal(MakeTokenOrder(config.patchify, {1, 16, 16}).tokens(),
                                 TokenOrder::RowOrder(256).tokens()));
}

TEST(TokenOrder, RefusesWhatIsNoPermutation) {
  EXPECT_THROW(TokenOrder({0, 0}), Error);
  EXPECT_THROW(TokenOrder({0, 2}), Error);
  EXPECT_THROW(TokenOrder({0, -1}), Error);
  EXPECT_THROW(TokenOrder::Patches({1, 0, 4}, 2, 2), Error);
  EXPECT_THROW(TokenOrder::Patches({1, 1 << 20, 1 << 20}, 2, 2), Error);
}

TEST(TokenOrder, RefusesTensorsOfAnotherSize) {
  Context context(1);
  const TokenOrder order = TokenOrder::RowOrder(4);
  const Tensor input = RandomTensor({1, 5, 2}, 1);
  Tensor output({1, 5, 2}, DType::kF32);
  EXPECT_THROW(order.Apply(context, input, output), Error);
}

}  // namespace
}  // namespace tamias
