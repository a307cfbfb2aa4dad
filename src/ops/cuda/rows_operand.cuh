// An operand of gathered_product.cuh: up to 128 rows of `depth` elements, contiguous along K, each
// at an address of its own (chosen rows of a weight, tokens, the queries of a head). Rows are
// whole vectors of 8; what a vector holds past the depth is multiplied, too.
#pragma once

#include "ops/cuda/gathered_product.cuh"

namespace tamias::cuda {

template <typename Half>
class RowsOperand {
 public:
  using Layout = DepthFastest;

  // row_of(line): the first element of a line, or null for a line of zeros. matrix: any address
  // that can be read, for copies of no bytes.
  template <typename RowOf>
  __device__ RowsOperand(const void* matrix, int depth, const RowOf& row_of) : depth_(depth) {
#pragma unroll
    for (int i = 0; i < ProductTile::kCopies; ++i) {
      const Half* row = row_of(Layout::Line(i));
      rows_[i] = row == nullptr ? static_cast<const Half*>(matrix) : row;
      present_ |= (row == nullptr ? 0u : 1u) << i;
    }
  }

  __device__ void Copy(unsigned char* operand, int k) const {
    const int column = k + Layout::DepthVector() * kVector;
#pragma unroll
    for (int i = 0; i < ProductTile::kCopies; ++i) {
      const bool inside = (present_ >> i & 1u) != 0 && column < depth_;
      CpAsync16(operand + Layout::Offset(Layout::Line(i), Layout::DepthVector()),
                inside ? rows_[i] + column : rows_[i], inside);
    }
  }

 private:
  const Half* rows_[ProductTile::kCopies];
  unsigned present_ = 0;  // bit i: rows_[i] is a row
  int depth_;
};

}  // namespace tamias::cuda
