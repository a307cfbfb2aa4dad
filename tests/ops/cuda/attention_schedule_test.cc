#include "ops/cuda/attention_schedule.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace tamias::cuda {
namespace {

// How many blocks work on each row of each head.
std::vector<int> Cover(const TileSchedule& schedule, int64_t heads) {
  std::vector<int> times(static_cast<size_t>(heads * schedule.rows), 0);
  for (int64_t block = 0; block < schedule.Blocks(heads); ++block) {
    const QueryTile tile = schedule.At(block);
    for (int32_t row = tile.first_row; row < tile.end_row; ++row) {
      EXPECT_EQ(tile.item, tile.head * schedule.Groups() + row / schedule.group_size);
      ++times[static_cast<size_t>(tile.head) * static_cast<size_t>(schedule.rows) +
              static_cast<size_t>(row)];
    }
  }
  return times;
}

TEST(TileSchedule, EveryRowBelongsToOneBlock) {
  for (const int32_t rows : {1, 63, 64, 191, 192, 193, 1000}) {
    for (const int32_t group_size : {1, 7, 64, 192, 200, 500}) {
      for (const int32_t tile_rows : {64, 192}) {
        const std::vector<int> once(static_cast<size_t>(3 * rows), 1);
        EXPECT_EQ(Cover(ScheduleOfTiles(rows, group_size, tile_rows), 3), once);
        EXPECT_EQ(Cover(ScheduleOfGroups(rows, group_size, tile_rows), 3), once);
      }
    }
  }
}

TEST(TileSchedule, TilesDoNotExceedTheirRowsNorTheirGroup) {
  const TileSchedule schedule = ScheduleOfTiles(1000, 200, 192);
  EXPECT_EQ(schedule.tiles_per_group, 2);
  EXPECT_EQ(schedule.Blocks(2), 20);
  const QueryTile tile = schedule.At(3);  // the second tile of the second group
  EXPECT_EQ(tile.item, 1);
  EXPECT_EQ(tile.head, 0);
  EXPECT_EQ(tile.first_row, 392);
  EXPECT_EQ(tile.end_row, 400);
}

TEST(TileSchedule, FollowsTheOrder) {
  const std::vector<int32_t> order = {5, 0, 3, 1, 4, 2};  // two heads of three groups
  const TileSchedule schedule = ScheduleOfTiles(150, 64, 64, order.data());
  ASSERT_EQ(schedule.Blocks(2), 6);
  for (int64_t block = 0; block < 6; ++block) {
    EXPECT_EQ(schedule.At(block).item, order[static_cast<size_t>(block)]);
  }
  EXPECT_EQ(Cover(schedule, 2), std::vector<int>(300, 1));
}

TEST(TileSchedule, RowsBeforeTheGroupsStartFirst) {
  const std::vector<int32_t> order = {5, 0, 3, 1, 4, 2};  // two heads of three groups
  const TileSchedule schedule =
      ScheduleOfTiles(150, 64, 64, order.data()).WithDenseRows(/*count=*/100, /*heads=*/2);
  ASSERT_EQ(schedule.Blocks(2), 4 + 6);
  const int32_t dense[][3] = {{0, 0, 64}, {0, 64, 100}, {1, 0, 64}, {1, 64, 100}};
  for (int64_t block = 0; block < 4; ++block) {
    const QueryTile tile = schedule.At(block);
    EXPECT_LT(tile.item, 0);
    EXPECT_EQ(tile.head, dense[block][0]);
    EXPECT_EQ(tile.first_row, dense[block][1]);
    EXPECT_EQ(tile.end_row, dense[block][2]);
  }
  for (int64_t block = 4; block < 10; ++block) {
    const QueryTile tile = schedule.At(block);
    EXPECT_EQ(tile.item, order[static_cast<size_t>(block - 4)]);
    EXPECT_EQ(tile.first_row, 100 + tile.item % 3 * 64);
    EXPECT_EQ(tile.end_row, std::min(250, tile.first_row + 64));
  }
}

TEST(TileSchedule, StartsTheLastRowsOfAHeadFirst) {
  const TileSchedule schedule = ScheduleOfTiles(150, 64, 32);  // three groups of two tiles
  ASSERT_EQ(schedule.Blocks(2), 12);
  const std::vector<int64_t> expected = {5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6};
  for (int64_t block = 0; block < 12; ++block) {
    EXPECT_EQ(schedule.LastRowsFirst(block), expected[static_cast<size_t>(block)]);
  }
  const std::vector<int32_t> order = {1, 0, 2};
  EXPECT_EQ(ScheduleOfTiles(150, 64, 64, order.data()).LastRowsFirst(0), 0);
}

TEST(TileSchedule, CountsBlocksBeyondThirtyTwoBits) {
  EXPECT_EQ(ScheduleOfTiles(119056, 1, 64).Blocks(int64_t{1} << 20), int64_t{119056} << 20);
}

}  // namespace
}  // namespace tamias::cuda
