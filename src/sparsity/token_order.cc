// Token orders as permutations, built once per generation; applying one is a parallel row gather.
#include "tamias/sparsity/token_order.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/parallel.h"
#include "ops/check_tensor.h"

namespace tamias {
namespace {

// A box of tokens [begin, end) in (time, height, width).
struct Box {
  std::array<int64_t, 3> begin;
  std::array<int64_t, 3> end;
  bool IsWhole(const std::array<int64_t, 3>& size) const {
    for (size_t axis = 0; axis < 3; ++axis) {
      if (end[axis] - begin[axis] != size[axis]) return false;
    }
    return true;
  }
};

// The boxes of `size` tokens that tile `box`, in row order, cut off at its far sides.
std::vector<Box> Tile(const Box& box, const std::array<int64_t, 3>& size) {
  std::vector<Box> tiles;
  for (int64_t t = box.begin[0]; t < box.end[0]; t += size[0]) {
    for (int64_t h = box.begin[1]; h < box.end[1]; h += size[1]) {
      for (int64_t w = box.begin[2]; w < box.end[2]; w += size[2]) {
        tiles.push_back({{t, h, w},
                         {std::min(t + size[0], box.end[0]), std::min(h + size[1], box.end[1]),
                          std::min(w + size[2], box.end[2])}});
      }
    }
  }
  return tiles;
}

void AppendTokens(const TokenGrid& grid, const Box& box, std::vector<int32_t>& tokens) {
  for (int64_t t = box.begin[0]; t < box.end[0]; ++t) {
    for (int64_t h = box.begin[1]; h < box.end[1]; ++h) {
      for (int64_t w = box.begin[2]; w < box.end[2]; ++w) {
        tokens.push_back(static_cast<int32_t>((t * grid.height + h) * grid.width + w));
      }
    }
  }
}

Box WholeGrid(const TokenGrid& grid) { return {{0, 0, 0}, {grid.time, grid.height, grid.width}}; }

void CheckGrid(const TokenGrid& grid) {
  const bool is_valid = grid.time > 0 && grid.height > 0 && grid.width > 0 &&
                        grid.time <= INT32_MAX && grid.height <= INT32_MAX &&
                        grid.width <= INT32_MAX / grid.height &&
                        grid.time <= INT32_MAX / (grid.height * grid.width);
  if (!is_valid) {
    Fail(ErrorCode::kInvalidArgument,
         "token order: grid: expected 1 to 2^31 tokens, found {}x{}x{}", grid.time, grid.height,
         grid.width);
  }
}

// destination[b, to[i], :] = source[b, from[i], :]; an empty list stands for 0, 1, 2, ...
void MoveRows(Context& context, std::span<const int32_t> from, std::span<const int32_t> to,
              ConstTensorView source, TensorView destination) {
  if (context.IsPlanning()) return;
  const int64_t tokens = static_cast<int64_t>(std::max(from.size(), to.size()));
  const int64_t batch = source.dim(0);
  const size_t row_bytes = static_cast<size_t>(source.dim(2)) * sizeof(float);
  const auto row = [](std::span<const int32_t> list, int64_t i) {
    return list.empty() ? i : int64_t{list[static_cast<size_t>(i)]};
  };
  constexpr int64_t kGrain = 64;  // rows; fewer are not worth a thread
  ParallelForRanges(context, batch * tokens, kGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t b = item / tokens;
      const int64_t i = item % tokens;
      std::memcpy(
          destination.host_data<float>() + b * destination.stride(0) +
              row(to, i) * destination.stride(1),
          source.host_data<float>() + b * source.stride(0) + row(from, i) * source.stride(1),
          row_bytes);
    }
  });
}

void CheckRows(const char* operation, int64_t tokens, ConstTensorView input, TensorView output) {
  CheckTensor(operation, "input", input, DType::kF32, {-1, tokens, -1});
  CheckTensor(operation, "output", output, DType::kF32, input.shape());
  CheckUnitStride(operation, "input", input);
  CheckUnitStride(operation, "output", output);
}

}  // namespace

TokenOrder::TokenOrder(std::vector<int32_t> tokens)
    : tokens_(std::move(tokens)), positions_(tokens_.size(), -1) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const auto token = static_cast<size_t>(tokens_[i]);
    if (tokens_[i] < 0 || token >= tokens_.size() || positions_[token] >= 0) {
      Fail(ErrorCode::kInvalidArgument,
           "token order: tokens: expected a permutation of {} tokens, found {} at position {}",
           tokens_.size(), tokens_[i], i);
    }
    positions_[token] = static_cast<int32_t>(i);
  }
}

TokenOrder TokenOrder::RowOrder(int64_t size) {
  std::vector<int32_t> tokens(static_cast<size_t>(size));
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i);
  return TokenOrder(std::move(tokens));
}

TokenOrder TokenOrder::Patches(const TokenGrid& grid, int64_t outer, int64_t inner) {
  CheckGrid(grid);
  const std::vector<Box> patches = Tile(WholeGrid(grid), {1, outer, outer});
  const auto append = [&](const Box& patch, std::vector<int32_t>& tokens) {
    for (const Box& part : Tile(patch, {1, inner, inner})) AppendTokens(grid, part, tokens);
  };
  std::vector<int32_t> whole;
  std::vector<int32_t> right;
  std::vector<int32_t> bottom;
  whole.reserve(static_cast<size_t>(grid.size()));
  for (const Box& patch : patches) {
    const bool is_cut_below = patch.end[1] - patch.begin[1] < outer;
    append(patch, patch.IsWhole({1, outer, outer}) ? whole : is_cut_below ? bottom : right);
  }
  whole.insert(whole.end(), right.begin(), right.end());
  whole.insert(whole.end(), bottom.begin(), bottom.end());
  return TokenOrder(std::move(whole));
}

TokenOrder TokenOrder::Voxels(const TokenGrid& grid, std::array<int64_t, 3> voxel) {
  CheckGrid(grid);
  const std::array<int64_t, 3> whole = {grid.time / voxel[0] * voxel[0],
                                        grid.height / voxel[1] * voxel[1],
                                        grid.width / voxel[2] * voxel[2]};
  const std::array<Box, 4> regions = {
      Box{{0, 0, 0}, whole},
      Box{{whole[0], 0, 0}, {grid.time, grid.height, grid.width}},  // time tail
      Box{{0, whole[1], 0}, {whole[0], grid.height, grid.width}},   // height tail
      Box{{0, 0, whole[2]}, {whole[0], whole[1], grid.width}}};     // width tail
  std::vector<int32_t> tokens;
  tokens.reserve(static_cast<size_t>(grid.size()));
  for (const Box& region : regions) {
    for (const Box& part : Tile(region, voxel)) AppendTokens(grid, part, tokens);
  }
  return TokenOrder(std::move(tokens));
}

void TokenOrder::Apply(Context& context, ConstTensorView input, TensorView output) const {
  CheckRows("apply token order", size(), input, output);
  MoveRows(context, tokens_, {}, input, output);
}

void TokenOrder::Invert(Context& context, ConstTensorView input, TensorView output) const {
  CheckRows("invert token order", size(), input, output);
  MoveRows(context, {}, tokens_, input, output);
}

TokenOrder MakeTokenOrder(const SparsityConfig::Patchify& patches, const TokenGrid& grid) {
  CheckGrid(grid);
  if (!patches.is_enabled) return TokenOrder::RowOrder(grid.size());
  if (grid.time > 1) return TokenOrder::Voxels(grid);
  return TokenOrder::Patches(grid, patches.chunk_size_1, patches.chunk_size_2);
}

}  // namespace tamias
