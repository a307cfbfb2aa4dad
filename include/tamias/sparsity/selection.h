// Which key columns each group of query rows keeps (Chipmunk, arXiv 2506.03275). Strategies share
// one small interface and each adds columns to a mask, so that a new idea is one class.
// Symbols: B batch, H heads, L text tokens, N image tokens, Nk = L + N keys (text first),
// G = ceil(N / group_size) groups of image queries.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tamias/context.h"
#include "tamias/sparsity/config.h"
#include "tamias/sparsity/geometry.h"
#include "tamias/sparsity/token_order.h"
#include "tamias/tensor.h"

namespace tamias {

// What a selector may look at. Rows are (batch, head, group) with the group fastest.
struct SelectionInputs {
  ConstTensorView column_sums;  // [R, Nk] f32: attention that each column draws from the group
  int64_t num_groups = 1;       // G; row r belongs to group r % G
  int64_t first_row = 0;        // the number of the first of these rows among all of the seed
  uint64_t seed = 0;            // of this layer and step
};

class ColumnSelector {
 public:
  virtual ~ColumnSelector() = default;
  // Sets bits of mask [R, ceil(Nk / 8)] u8 (tamias/ops/mask.h); the others are left.
  virtual void Select(Context& context, const SelectionInputs& inputs, TensorView mask) const = 0;
  // No row gets more bits than this from Select.
  virtual int64_t MaxColumns() const = 0;
  // Moves what Select reads to the context's device; called once, before the first Select there.
  virtual void MoveTo(const Context& /*context*/) {}
};

// The k columns with the largest sums.
class TopColumns : public ColumnSelector {
 public:
  explicit TopColumns(int64_t k) : k_(k) {}
  void Select(Context& context, const SelectionInputs& inputs, TensorView mask) const override;
  int64_t MaxColumns() const override { return k_; }

 private:
  int64_t k_;
};

// Each of num_keys columns with a probability; at most MaxColumns(), the mean and eight standard
// deviations, so that the memory for the selection is bounded.
class RandomColumns : public ColumnSelector {
 public:
  RandomColumns(int64_t num_keys, double probability);
  void Select(Context& context, const SelectionInputs& inputs, TensorView mask) const override;
  int64_t MaxColumns() const override { return max_columns_; }

 private:
  int64_t num_keys_;
  double probability_;
  int64_t max_columns_;
};

// The same columns for a group in every layer and step.
class StaticColumns : public ColumnSelector {
 public:
  // mask [G, ceil(Nk / 8)] u8.
  explicit StaticColumns(Tensor mask);
  void Select(Context& context, const SelectionInputs& inputs, TensorView mask) const override;
  int64_t MaxColumns() const override { return max_columns_; }
  void MoveTo(const Context& context) override;

 private:
  Tensor mask_;
  int64_t max_columns_;
};

// All of its parts.
class CombinedColumns : public ColumnSelector {
 public:
  CombinedColumns(int64_t num_keys, std::vector<std::unique_ptr<ColumnSelector>> parts);
  void Select(Context& context, const SelectionInputs& inputs, TensorView mask) const override;
  int64_t MaxColumns() const override { return max_columns_; }
  void MoveTo(const Context& context) override;

 private:
  std::vector<std::unique_ptr<ColumnSelector>> parts_;
  int64_t max_columns_;
};

// share * size rounded to the nearest multiple, at least one multiple when share > 0, at most size.
int64_t RoundedCount(double share, int64_t size, int64_t multiple);

// [G, ceil(Nk / 8)] u8: all text columns; the image tokens within a window of `local_voxels` voxels
// a side (patches of chunk_size_1 in pictures, 4x6x8 tokens in video) around the group's centre,
// shifted inwards at the borders so that it keeps its size; a run of local_1d_window * N tokens
// around the group's position, cut off at both ends.
Tensor StaticColumnMask(const SparsityConfig::Attention& config,
                        const SparsityConfig::Patchify& patches, const SparseGeometry& geometry,
                        const TokenOrder& order);

// The published selection: top_keys by column sum, random_keys at random, the static columns.
std::unique_ptr<ColumnSelector> MakeColumnSelector(const SparsityConfig::Attention& config,
                                                   const SparsityConfig::Patchify& patches,
                                                   const SparseGeometry& geometry,
                                                   const TokenOrder& order);

}  // namespace tamias
