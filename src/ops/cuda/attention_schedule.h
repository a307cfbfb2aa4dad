// TileSchedule: which query rows a block of the attention kernels works on. Blocks start in the
// order of their number, so the number decides what starts first and what runs side by side: the
// tiles of a group, then the groups of a head (they share its K and V in the L2 cache), or the
// groups in an order that is given. Rows before the groups, whose list would be everything, start
// before all groups. Causal calls start the last rows of a head first: they see most keys. Plain
// C++, the same on host and device.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tamias::cuda {

// Query rows [first_row, end_row) of one group of one head.
struct QueryTile {
  int32_t item;  // (b * H + h) * G + g: the group's place in lists and column sums, or negative:
                 // rows before the groups, which have no list
  int32_t head;  // b * H + h
  int32_t first_row;
  int32_t end_row;
};

struct TileSchedule {
  int32_t rows;                    // of a head, in groups
  int32_t group_size;              // rows of a group; the last of a head may have fewer
  int32_t tile_rows;               // rows of a block at once
  int32_t tiles_per_group;         // blocks of a group; with 1, a block walks all rows of its group
  const int32_t* order = nullptr;  // [heads * Groups()] items as they start, or null: 0, 1, 2, ...

  int32_t dense_rows = 0;    // of a head, before the groups
  int64_t dense_blocks = 0;  // of all heads

  constexpr TileSchedule WithDenseRows(int64_t count, int64_t heads) const {
    TileSchedule schedule = *this;
    schedule.dense_rows = static_cast<int32_t>(count);
    schedule.dense_blocks = heads * schedule.DenseTiles();
    return schedule;
  }

  constexpr int64_t Groups() const { return (int64_t{rows} + group_size - 1) / group_size; }
  constexpr int64_t Blocks(int64_t heads) const {
    return dense_blocks + heads * Groups() * tiles_per_group;
  }

  // A block's number when the tiles of a head start from last to first; an order that is given
  // stays.
  constexpr int64_t LastRowsFirst(int64_t block) const {
    if (order != nullptr) return block;
    const int64_t per_head = Groups() * tiles_per_group;
    return block - block % per_head + (per_head - 1 - block % per_head);
  }

  // May be empty (first_row >= end_row): the last tiles of a short group.
  constexpr QueryTile At(int64_t block) const {
    if (block < dense_blocks) return DenseTile(block);
    block -= dense_blocks;
    const int64_t place = block / tiles_per_group;
    const auto tile = static_cast<int32_t>(block % tiles_per_group);
    const int64_t item = order == nullptr ? place : order[place];
    const int64_t head = item / Groups();
    const int64_t group_begin = item % Groups() * group_size;
    const int64_t group_end = std::min<int64_t>(rows, group_begin + group_size);
    const int64_t begin = group_begin + int64_t{tile} * tile_rows;
    const int64_t end = tiles_per_group == 1 ? group_end : std::min(group_end, begin + tile_rows);
    return {static_cast<int32_t>(item), static_cast<int32_t>(head),
            static_cast<int32_t>(dense_rows + begin), static_cast<int32_t>(dense_rows + end)};
  }

 private:
  constexpr int64_t DenseTiles() const { return (int64_t{dense_rows} + tile_rows - 1) / tile_rows; }

  constexpr QueryTile DenseTile(int64_t block) const {
    const int64_t begin = block % DenseTiles() * tile_rows;
    return {-1, static_cast<int32_t>(block / DenseTiles()), static_cast<int32_t>(begin),
            static_cast<int32_t>(std::min<int64_t>(dense_rows, begin + tile_rows))};
  }
};

// One block per tile of rows.
constexpr TileSchedule ScheduleOfTiles(int32_t rows, int32_t group_size, int32_t tile_rows,
                                       const int32_t* order = nullptr) {
  return {rows, group_size, tile_rows, (group_size + tile_rows - 1) / tile_rows, order};
}

// One block per group, which it walks tile by tile: what is summed over a group needs no atomics.
constexpr TileSchedule ScheduleOfGroups(int32_t rows, int32_t group_size, int32_t tile_rows) {
  return {rows, group_size, tile_rows, 1, nullptr};
}

}  // namespace tamias::cuda
