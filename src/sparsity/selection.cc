// The selection strategies, on the mask operations of ops/.
#include "tamias/sparsity/selection.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "tamias/device_memory.h"
#include "tamias/ops/mask.h"
#include "tamias/ops/top_k.h"
#include "tamias/random.h"

namespace tamias {
namespace {

struct Point {
  double time = 0, height = 0, width = 0;
};

Point Coordinates(const TokenGrid& grid, int64_t token) {
  return {static_cast<double>(token / (grid.height * grid.width)),
          static_cast<double>(token / grid.width % grid.height),
          static_cast<double>(token % grid.width)};
}

// The mean place of the tokens at positions [begin, end).
Point Centre(const TokenGrid& grid, const TokenOrder& order, int64_t begin, int64_t end) {
  Point sum;
  for (int64_t i = begin; i < end; ++i) {
    const Point p = Coordinates(grid, order.tokens()[static_cast<size_t>(i)]);
    sum = {sum.time + p.time, sum.height + p.height, sum.width + p.width};
  }
  const double count = static_cast<double>(end - begin);
  return {sum.time / count, sum.height / count, sum.width / count};
}

// The extent of one voxel: what the token order keeps together.
Point VoxelSize(const SparsityConfig::Patchify& patches, const TokenGrid& grid) {
  if (grid.time > 1) return {4, 6, 8};
  const double side = static_cast<double>(patches.chunk_size_1);
  return {1, side, side};
}

// Of one axis of `extent` tokens: the `size` tokens around `centre`, shifted inwards where they
// would leave the axis, so that there are as many at its borders; the whole axis where it is
// shorter.
struct Range {
  int64_t begin;
  int64_t end;
};

Range WindowAround(double centre, double size, int64_t extent) {
  const auto length = std::min(extent, static_cast<int64_t>(size));
  const int64_t begin = std::llround(centre - (static_cast<double>(length) - 1) / 2);
  const int64_t shifted = std::clamp(begin, int64_t{0}, extent - length);
  return {shifted, shifted + length};
}

// `sides` voxels a side, `voxel` the extent of one.
void SetLocalVoxels(double sides, const Point& voxel, const SparseGeometry& geometry,
                    const TokenOrder& order, const Point& centre, int64_t group, TensorView mask) {
  const TokenGrid& grid = geometry.grid;
  const Range times = WindowAround(centre.time, sides * voxel.time, grid.time);
  const Range rows = WindowAround(centre.height, sides * voxel.height, grid.height);
  const Range columns = WindowAround(centre.width, sides * voxel.width, grid.width);
  for (int64_t t = times.begin; t < times.end; ++t) {
    for (int64_t h = rows.begin; h < rows.end; ++h) {
      for (int64_t w = columns.begin; w < columns.end; ++w) {
        const auto token = static_cast<size_t>((t * grid.height + h) * grid.width + w);
        const int64_t column = geometry.text_tokens + order.positions()[token];
        SetMaskRange(mask, group, column, column + 1);
      }
    }
  }
}

}  // namespace

void TopColumns::Select(Context& context, const SelectionInputs& inputs, TensorView mask) const {
  TopKMask(context, inputs.column_sums, k_, mask);
}

RandomColumns::RandomColumns(int64_t num_keys, double probability)
    : num_keys_(num_keys), probability_(probability) {
  const double n = static_cast<double>(num_keys);
  const double spread = std::sqrt(n * probability * (1 - probability));
  max_columns_ = std::min(num_keys, static_cast<int64_t>(n * probability + 8 * spread + 16));
}

void RandomColumns::Select(Context& context, const SelectionInputs& inputs, TensorView mask) const {
  Workspace::Scope scope(context.workspace());
  TensorView chosen = context.workspace().Allocate(mask.shape(), DType::kU8);
  Zero(context, chosen);
  const uint64_t seed = SeedFrom(inputs.seed, static_cast<uint64_t>(inputs.first_row * num_keys_));
  RandomMask(context, probability_, seed, chosen, num_keys_);
  OrMask(context, chosen, max_columns_, mask);
}

StaticColumns::StaticColumns(Tensor mask) : mask_(std::move(mask)), max_columns_(0) {
  const int64_t bytes = mask_.dim(1);
  for (int64_t group = 0; group < mask_.dim(0); ++group) {
    int64_t count = 0;
    for (int64_t i = 0; i < bytes; ++i) {
      count += std::popcount(mask_.host_data<uint8_t>()[group * bytes + i]);
    }
    max_columns_ = std::max(max_columns_, count);
  }
}

void StaticColumns::Select(Context& context, const SelectionInputs& inputs, TensorView mask) const {
  TAMIAS_CHECK(inputs.num_groups == mask_.dim(0) && mask.dim(1) == mask_.dim(1));
  OrMask(context, mask_, max_columns_, mask);
}

void StaticColumns::MoveTo(const Context& context) {
  if (context.IsOnGpu()) mask_ = CopyToDevice(context, mask_);
}

CombinedColumns::CombinedColumns(int64_t num_keys,
                                 std::vector<std::unique_ptr<ColumnSelector>> parts)
    : parts_(std::move(parts)), max_columns_(0) {
  for (const auto& part : parts_) max_columns_ += part->MaxColumns();
  max_columns_ = std::min(max_columns_, num_keys);
}

void CombinedColumns::Select(Context& context, const SelectionInputs& inputs,
                             TensorView mask) const {
  for (const auto& part : parts_) part->Select(context, inputs, mask);
}

void CombinedColumns::MoveTo(const Context& context) {
  for (const auto& part : parts_) part->MoveTo(context);
}

int64_t RoundedCount(double share, int64_t size, int64_t multiple) {
  if (share <= 0) return 0;
  const int64_t multiples =
      std::llround(share * static_cast<double>(size) / static_cast<double>(multiple));
  return std::min(size, std::max(int64_t{1}, multiples) * multiple);
}

Tensor StaticColumnMask(const SparsityConfig::Attention& config,
                        const SparsityConfig::Patchify& patches, const SparseGeometry& geometry,
                        const TokenOrder& order) {
  const Point voxel = VoxelSize(patches, geometry.grid);
  const int64_t text = geometry.text_tokens;
  const int64_t image = geometry.image_tokens();
  const int64_t group_size = config.mbm;
  const int64_t groups = (image + group_size - 1) / group_size;
  const auto window = static_cast<int64_t>(config.local_1d_window * static_cast<double>(image));
  Tensor mask = Tensor::Zeros({groups, MaskBytes(text + image)}, DType::kU8);
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t begin = group * group_size;
    const int64_t end = std::min(begin + group_size, image);
    SetMaskRange(mask, group, 0, text);
    if (window > 0) {
      const int64_t first = std::max(int64_t{0}, (begin + end - window) / 2);
      SetMaskRange(mask, group, text + first, text + std::min(image, first + window));
    }
    if (config.local_voxels > 0) {
      const Point centre = Centre(geometry.grid, order, begin, end);
      SetLocalVoxels(static_cast<double>(config.local_voxels), voxel, geometry, order, centre,
                     group, mask);
    }
  }
  return mask;
}

std::unique_ptr<ColumnSelector> MakeColumnSelector(const SparsityConfig::Attention& config,
                                                   const SparsityConfig::Patchify& patches,
                                                   const SparseGeometry& geometry,
                                                   const TokenOrder& order) {
  const int64_t keys = geometry.joint_tokens();
  std::vector<std::unique_ptr<ColumnSelector>> parts;
  parts.push_back(
      std::make_unique<TopColumns>(RoundedCount(config.top_keys, keys, config.counts_multiple_of)));
  if (config.random_keys > 0) {
    parts.push_back(std::make_unique<RandomColumns>(keys, config.random_keys));
  }
  parts.push_back(
      std::make_unique<StaticColumns>(StaticColumnMask(config, patches, geometry, order)));
  return std::make_unique<CombinedColumns>(keys, std::move(parts));
}

}  // namespace tamias
