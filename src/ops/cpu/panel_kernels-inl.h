// The two matrix products that column-sparse attention and the column-sparse MLP are made of, over
// a panel: kVectors SIMD vectors of tokens (query rows) side by side, panel [depth][lanes] with
// lanes = kVectors * Lanes(d). The other operand is a list of row pointers (keys, values, rows of
// W1 or W2), read in place one scalar at a time and broadcast, so gathering them costs nothing.
//   RowsTimesPanel:            out[r][lane]    = sum_k rows[r][k] * panel[k][lane]
//   AccumulateTransposedRows:  out[k][lane] (+)= sum_r rows[r][k] * p[r][lane]
// Accumulators stay in registers: tiles of kTileRows x kVectors. Highway target code; include it
// after foreach_target.h.
#if defined(TAMIAS_OPS_CPU_PANEL_KERNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TAMIAS_OPS_CPU_PANEL_KERNELS_INL_H_
#undef TAMIAS_OPS_CPU_PANEL_KERNELS_INL_H_
#else
#define TAMIAS_OPS_CPU_PANEL_KERNELS_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>

#if HWY_COMPILER_CLANG
#define TAMIAS_UNROLL _Pragma("unroll")
#else
#define TAMIAS_UNROLL _Pragma("GCC unroll 32")
#endif

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using FloatVector = hn::Vec<FloatTag>;

// Vectors in a full panel. A panel of one vector serves the rows that are left.
constexpr int kPanelVectors = 2;

// Rows of a register tile: accumulators, the panel's vectors and one broadcast fill the registers,
// 13 * 2 + 3 of 32 (AVX-512, Arm: 13 divides 104, see kKeyBlock) or 6 * 2 + 3 of 16.
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SCALAR
constexpr int kTileRows = 6;
#else
constexpr int kTileRows = 13;
#endif

constexpr int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The largest number of lanes of a panel on this machine, for sizing scratch.
inline int64_t PanelLanes() { return kPanelVectors * static_cast<int64_t>(hn::Lanes(FloatTag())); }

// out[r][lane] for kRows rows. With kMaximum, maximum[lane] becomes the maximum of itself and all
// out[.][lane]; a NaN (of overflow in the products) is passed over on x86.
template <int kRows, int kVectors, bool kMaximum>
HWY_INLINE void RowsTile(const float* const* HWY_RESTRICT rows, const float* HWY_RESTRICT panel,
                         int64_t depth, float* HWY_RESTRICT out, float* HWY_RESTRICT maximum) {
  const FloatTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  FloatVector sum[kRows][kVectors];
  TAMIAS_UNROLL
  for (int r = 0; r < kRows; ++r) {
    TAMIAS_UNROLL
    for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::Zero(d);
  }
  for (int64_t k = 0; k < depth; ++k) {
    FloatVector column[kVectors];
    TAMIAS_UNROLL
    for (int v = 0; v < kVectors; ++v) column[v] = hn::Load(d, panel + v * lanes);
    panel += kVectors * lanes;
    TAMIAS_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const FloatVector scalar = hn::Set(d, rows[r][k]);
      TAMIAS_UNROLL
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(scalar, column[v], sum[r][v]);
    }
  }
  TAMIAS_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    FloatVector most = hn::Zero(d);
    if (kMaximum) most = hn::Load(d, maximum + v * lanes);
    TAMIAS_UNROLL
    for (int r = 0; r < kRows; ++r) {
      hn::Store(sum[r][v], d, out + (r * kVectors + v) * lanes);
      if (kMaximum) most = hn::Max(sum[r][v], most);
    }
    if (kMaximum) hn::Store(most, d, maximum + v * lanes);
  }
}

// out[k][lane] for kColumns consecutive k starting at `column`.
template <int kColumns, int kVectors, bool kAccumulate>
HWY_INLINE void TransposedRowsTile(const float* const* HWY_RESTRICT rows, int64_t num_rows,
                                   int64_t column, const float* HWY_RESTRICT p,
                                   float* HWY_RESTRICT out) {
  const FloatTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  FloatVector sum[kColumns][kVectors];
  TAMIAS_UNROLL
  for (int k = 0; k < kColumns; ++k) {
    TAMIAS_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      if (kAccumulate) {
        sum[k][v] = hn::Load(d, out + (k * kVectors + v) * lanes);
      } else {
        sum[k][v] = hn::Zero(d);
      }
    }
  }
  for (int64_t r = 0; r < num_rows; ++r) {
    const float* HWY_RESTRICT row = rows[r] + column;
    FloatVector weight[kVectors];
    TAMIAS_UNROLL
    for (int v = 0; v < kVectors; ++v) weight[v] = hn::Load(d, p + v * lanes);
    p += kVectors * lanes;
    TAMIAS_UNROLL
    for (int k = 0; k < kColumns; ++k) {
      const FloatVector scalar = hn::Set(d, row[k]);
      TAMIAS_UNROLL
      for (int v = 0; v < kVectors; ++v) sum[k][v] = hn::MulAdd(scalar, weight[v], sum[k][v]);
    }
  }
  TAMIAS_UNROLL
  for (int k = 0; k < kColumns; ++k) {
    TAMIAS_UNROLL
    for (int v = 0; v < kVectors; ++v) hn::Store(sum[k][v], d, out + (k * kVectors + v) * lanes);
  }
}

// Calls the tile with `rows` as a template argument, 1 <= rows <= kRows.
template <int kRows, int kVectors, bool kMaximum>
HWY_NOINLINE void RowsTileOf(int64_t num_rows, const float* const* rows, const float* panel,
                             int64_t depth, float* out, float* maximum) {
  if constexpr (kRows > 1) {
    if (num_rows < kRows) {
      return RowsTileOf<kRows - 1, kVectors, kMaximum>(num_rows, rows, panel, depth, out, maximum);
    }
  }
  RowsTile<kRows, kVectors, kMaximum>(rows, panel, depth, out, maximum);
}

template <int kColumns, int kVectors, bool kAccumulate>
HWY_NOINLINE void TransposedRowsTileOf(int64_t columns, const float* const* rows, int64_t num_rows,
                                       int64_t column, const float* p, float* out) {
  if constexpr (kColumns > 1) {
    if (columns < kColumns) {
      return TransposedRowsTileOf<kColumns - 1, kVectors, kAccumulate>(columns, rows, num_rows,
                                                                       column, p, out);
    }
  }
  TransposedRowsTile<kColumns, kVectors, kAccumulate>(rows, num_rows, column, p, out);
}

// out[r][lane] = sum over k < depth of rows[r][k] * panel[k][lane], r < num_rows.
// panel and out are vector-aligned, out [num_rows][lanes]. kMaximum: see RowsTile; else pass null.
template <int kVectors, bool kMaximum>
HWY_INLINE void RowsTimesPanel(const float* const* rows, int64_t num_rows, const float* panel,
                               int64_t depth, float* out, float* maximum) {
  const int64_t lanes = kVectors * static_cast<int64_t>(hn::Lanes(FloatTag()));
  const int64_t tiles = CeilDivide(num_rows, kTileRows);  // of nearly equal size
  for (int64_t tile = 0, r = 0; tile < tiles; ++tile) {
    const int64_t end = num_rows * (tile + 1) / tiles;
    RowsTileOf<kTileRows, kVectors, kMaximum>(end - r, rows + r, panel, depth, out + r * lanes,
                                              maximum);
    r = end;
  }
}

// out[k][lane] = (kAccumulate ? out[k][lane] : 0) + sum over r < num_rows of rows[r][k] *
// p[r][lane], k < columns. p and out are vector-aligned, p [num_rows][lanes], out [columns][lanes].
template <int kVectors, bool kAccumulate>
HWY_INLINE void AccumulateTransposedRows(const float* const* rows, int64_t num_rows,
                                         int64_t columns, const float* p, float* out) {
  const int64_t lanes = kVectors * static_cast<int64_t>(hn::Lanes(FloatTag()));
  const int64_t tiles = CeilDivide(columns, kTileRows);
  for (int64_t tile = 0, k = 0; tile < tiles; ++tile) {
    const int64_t end = columns * (tile + 1) / tiles;
    TransposedRowsTileOf<kTileRows, kVectors, kAccumulate>(end - k, rows, num_rows, k, p,
                                                           out + k * lanes);
    k = end;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#endif  // TAMIAS_OPS_CPU_PANEL_KERNELS_INL_H_
