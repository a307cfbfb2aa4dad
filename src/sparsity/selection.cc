// The selection strategies, on the mask operations of ops/.
#include "sparsity/selection.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/parallel.h"
#include "ops/mask.h"
#include "ops/top_k.h"

namespace tamias {
namespace {

// Sets the bits of `source` in `row`, lowest columns first, up to `limit` of them.
void OrLimited(const uint8_t* source, int64_t bytes, int64_t limit, uint8_t* row) {
  for (int64_t i = 0; i < bytes && limit > 0; ++i) {
    unsigned bits = source[i];
    const int count = std::popcount(bits);
    for (int64_t excess = count - limit; excess > 0; --excess) bits &= ~std::bit_floor(bits);
    limit -= count;
    row[i] = static_cast<uint8_t>(row[i] | bits);
  }
}

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
Point VoxelSize(const SparsityConfig& config, const TokenGrid& grid) {
  if (grid.time > 1) return {4, 6, 8};
  const double side = static_cast<double>(config.patchify.chunk_size_1);
  return {1, side, side};
}

void SetLocalVoxels(const SparsityConfig& config, const SparseGeometry& geometry,
                    const TokenOrder& order, const Point& centre, int64_t group, TensorView mask) {
  const double sides = static_cast<double>(config.attn.local_voxels);
  const Point voxel = VoxelSize(config, geometry.grid);
  for (int64_t i = 0; i < geometry.image_tokens(); ++i) {
    const Point p = Coordinates(geometry.grid, order.tokens()[static_cast<size_t>(i)]);
    if (2 * std::abs(p.time - centre.time) <= sides * voxel.time &&
        2 * std::abs(p.height - centre.height) <= sides * voxel.height &&
        2 * std::abs(p.width - centre.width) <= sides * voxel.width) {
      SetMaskRange(mask, group, geometry.text_tokens + i, geometry.text_tokens + i + 1);
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
  const int64_t bytes = mask.dim(1);
  std::memset(chosen.raw(), 0, static_cast<size_t>(mask.NumElements()));
  RandomMask(context, probability_, inputs.seed, chosen, num_keys_);
  for (int64_t row = 0; row < mask.dim(0); ++row) {
    OrLimited(chosen.data<uint8_t>() + row * bytes, bytes, max_columns_,
              mask.data<uint8_t>() + row * bytes);
  }
}

StaticColumns::StaticColumns(Tensor mask) : mask_(std::move(mask)), max_columns_(0) {
  const int64_t bytes = mask_.dim(1);
  for (int64_t group = 0; group < mask_.dim(0); ++group) {
    int64_t count = 0;
    for (int64_t i = 0; i < bytes; ++i) {
      count += std::popcount(mask_.data<uint8_t>()[group * bytes + i]);
    }
    max_columns_ = std::max(max_columns_, count);
  }
}

void StaticColumns::Select(Context&, const SelectionInputs& inputs, TensorView mask) const {
  const int64_t bytes = mask.dim(1);
  TAMIAS_CHECK(inputs.num_groups == mask_.dim(0) && bytes == mask_.dim(1));
  for (int64_t row = 0; row < mask.dim(0); ++row) {
    const uint8_t* source = mask_.data<uint8_t>() + row % inputs.num_groups * bytes;
    uint8_t* target = mask.data<uint8_t>() + row * bytes;
    for (int64_t i = 0; i < bytes; ++i) target[i] = static_cast<uint8_t>(target[i] | source[i]);
  }
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

int64_t RoundedCount(double share, int64_t size, int64_t multiple) {
  if (share <= 0) return 0;
  const int64_t multiples =
      std::llround(share * static_cast<double>(size) / static_cast<double>(multiple));
  return std::min(size, std::max(int64_t{1}, multiples) * multiple);
}

Tensor StaticColumnMask(const SparsityConfig& config, const SparseGeometry& geometry,
                        const TokenOrder& order) {
  const int64_t text = geometry.text_tokens;
  const int64_t image = geometry.image_tokens();
  const int64_t group_size = config.attn.mbm;
  const int64_t groups = (image + group_size - 1) / group_size;
  const auto window =
      static_cast<int64_t>(config.attn.local_1d_window * static_cast<double>(image));
  Tensor mask = Tensor::Zeros({groups, MaskBytes(text + image)}, DType::kU8);
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t begin = group * group_size;
    const int64_t end = std::min(begin + group_size, image);
    SetMaskRange(mask, group, 0, text);
    if (window > 0) {
      const int64_t first = std::max(int64_t{0}, (begin + end - window) / 2);
      SetMaskRange(mask, group, text + first, text + std::min(image, first + window));
    }
    if (config.attn.local_voxels > 0) {
      const Point centre = Centre(geometry.grid, order, begin, end);
      SetLocalVoxels(config, geometry, order, centre, group, mask);
    }
  }
  return mask;
}

std::unique_ptr<ColumnSelector> MakeColumnSelector(const SparsityConfig& config,
                                                   const SparseGeometry& geometry,
                                                   const TokenOrder& order) {
  const int64_t keys = geometry.joint_tokens();
  std::vector<std::unique_ptr<ColumnSelector>> parts;
  parts.push_back(std::make_unique<TopColumns>(
      RoundedCount(config.attn.top_keys, keys, config.attn.counts_multiple_of)));
  if (config.attn.random_keys > 0) {
    parts.push_back(std::make_unique<RandomColumns>(keys, config.attn.random_keys));
  }
  parts.push_back(std::make_unique<StaticColumns>(StaticColumnMask(config, geometry, order)));
  return std::make_unique<CombinedColumns>(keys, std::move(parts));
}

}  // namespace tamias
