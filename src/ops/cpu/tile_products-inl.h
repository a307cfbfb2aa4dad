// The products of panel_kernels-inl.h on tiles of AMX. What is broadcast row by row there is copied
// into rows side by side here, since a tile is read at one distance from row to row; panels, scores
// and weights of pairs are tiles as they lie: 16 rows, of which each holds the pairs of 16 lanes.
// Highway target code; include it after foreach_target.h.
#if defined(TAMIAS_OPS_CPU_TILE_PRODUCTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TAMIAS_OPS_CPU_TILE_PRODUCTS_INL_H_
#undef TAMIAS_OPS_CPU_TILE_PRODUCTS_INL_H_
#else
#define TAMIAS_OPS_CPU_TILE_PRODUCTS_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

#include "ops/cpu/panel_kernels-inl.h"
#include "ops/cpu/tiles.h"

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {

// Pairs of bf16, a tile of them in one instruction. For vectors of 16 lanes.
struct TileProducts {
  using Element = BFloat16;
  static constexpr int kElements = 2;
  static constexpr int kRows = 2 * cpu::tiles::kRows;
  static constexpr bool kTiles = true;
};

// One operand of a product: where its tiles lie, in bytes.
struct TileOperand {
  const void* data;
  int64_t stride;    // from row to row of a tile
  int64_t step;      // from tile to tile along the contraction
  int64_t next = 0;  // to the tile beside it

  template <int kTile>
  HWY_INLINE void Load(int64_t index, int64_t at_step) const {
    cpu::tiles::Load<kTile>(static_cast<const uint8_t*>(data) + index * next + at_step * step,
                            stride);
  }
};

// c (+)= a b over `steps` tiles of the contraction: kRows by kColumns tiles of fp32, 1 or 2 each;
// row i of c is at c + i * stride, in floats. Tiles 0 to 3 are those of c, 4 and 5 of a, 6 and 7 of
// b. Within a cpu::tiles::Session.
template <int kRows, int kColumns, bool kAccumulate, class Meanwhile>
HWY_INLINE void MultiplyTiles(const TileOperand& a, const TileOperand& b, int64_t steps, float* c,
                              int64_t stride, Meanwhile& meanwhile) {
  namespace tiles = cpu::tiles;
  constexpr int64_t kFloat = sizeof(float);
  float* const right = c + tiles::kRows;
  float* const below = c + tiles::kRows * stride;
  if constexpr (kAccumulate) {
    tiles::Load<0>(c, stride * kFloat);
    if constexpr (kColumns == 2) tiles::Load<1>(right, stride * kFloat);
    if constexpr (kRows == 2) tiles::Load<2>(below, stride * kFloat);
    if constexpr (kRows == 2 && kColumns == 2)
      tiles::Load<3>(below + tiles::kRows, stride * kFloat);
  } else {
    tiles::Zero<0>();
    if constexpr (kColumns == 2) tiles::Zero<1>();
    if constexpr (kRows == 2) tiles::Zero<2>();
    if constexpr (kRows == 2 && kColumns == 2) tiles::Zero<3>();
  }
  for (int64_t step = 0; step < steps; ++step) {
    meanwhile();
    a.Load<4>(0, step);
    b.Load<6>(0, step);
    tiles::MultiplyPairs<0, 4, 6>();
    if constexpr (kColumns == 2) {
      b.Load<7>(1, step);
      tiles::MultiplyPairs<1, 4, 7>();
    }
    if constexpr (kRows == 2) {
      a.Load<5>(1, step);
      tiles::MultiplyPairs<2, 5, 6>();
      if constexpr (kColumns == 2) tiles::MultiplyPairs<3, 5, 7>();
    }
  }
  tiles::Store<0>(c, stride * kFloat);
  if constexpr (kColumns == 2) tiles::Store<1>(right, stride * kFloat);
  if constexpr (kRows == 2) tiles::Store<2>(below, stride * kFloat);
  if constexpr (kRows == 2 && kColumns == 2) tiles::Store<3>(below + tiles::kRows, stride * kFloat);
}

// Columns of a panel, or of pairs of weights, [steps * 16][kVectors * 16 lanes] of pairs.
template <int kVectors>
HWY_INLINE TileOperand PanelTiles(const float* panel) {
  constexpr int64_t kLanes = kVectors * cpu::tiles::kRows, kFloat = sizeof(float);
  return {panel, kLanes * kFloat, cpu::tiles::kRows * kLanes * kFloat, cpu::tiles::kRowBytes};
}

// out[r][lane] = sum over k < depth of rows[r][k] * panel[k][lane], r < num_rows: as RowsTimesPanel
// without scale and maximum. rows [num_rows, rounded up to 16][depth], one after the other; depth
// is a multiple of 32; out has room for as many rows, of which those past num_rows hold anything.
template <int kVectors, class Meanwhile>
HWY_NOINLINE void TileRowsTimesPanel(const BFloat16* rows, int64_t num_rows, const float* panel,
                                     int64_t depth, float* out, Meanwhile& meanwhile) {
  constexpr int64_t kLanes = kVectors * cpu::tiles::kRows, kHeight = cpu::tiles::kRows;
  const int64_t row_bytes = depth * static_cast<int64_t>(sizeof(BFloat16));
  const TileOperand b = PanelTiles<kVectors>(panel);
  for (int64_t r = 0; r < num_rows; r += 2 * kHeight) {
    const TileOperand a{rows + r * depth, row_bytes, cpu::tiles::kRowBytes, kHeight * row_bytes};
    const int64_t steps = depth / cpu::tiles::kDepth;
    if (num_rows - r > kHeight) {
      MultiplyTiles<2, kVectors, false>(a, b, steps, out + r * kLanes, kLanes, meanwhile);
    } else {
      MultiplyTiles<1, kVectors, false>(a, b, steps, out + r * kLanes, kLanes, meanwhile);
    }
  }
}

// scores [num_rows][lanes] times `scale`; maximum[lane] becomes that of itself and all of them.
template <int kVectors>
HWY_INLINE void ScaleScores(int64_t num_rows, float scale, float* scores, float* maximum) {
  const FloatTag d;
  const FloatVector factor = hn::Set(d, scale);
  FloatVector most[kVectors];
  for (int v = 0; v < kVectors; ++v) most[v] = hn::Load(d, maximum + v * VectorLanes());
  for (int64_t r = 0; r < num_rows; ++r) {
    TAMIAS_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      float* score = scores + (r * kVectors + v) * VectorLanes();
      const FloatVector scaled = hn::Mul(hn::Load(d, score), factor);
      hn::Store(scaled, d, score);
      most[v] = hn::Max(scaled, most[v]);
    }
  }
  for (int v = 0; v < kVectors; ++v) hn::Store(most[v], d, maximum + v * VectorLanes());
}

// out[k][lane] (+)= sum over the keys of values[k][key] * p[key][lane], k < columns: as
// AccumulateTransposedRows. values [16 pairs of keys at a time][columns][16 pairs], of pairs past
// the last anything finite, p [pairs, rounded up to 16][lanes] of pairs, zeros past the last;
// columns is a multiple of 32.
template <int kVectors, bool kAccumulate, class Meanwhile>
HWY_NOINLINE void TileAccumulate(const float* values, int64_t pairs, int64_t columns,
                                 const float* p, float* out, Meanwhile& meanwhile) {
  constexpr int64_t kLanes = kVectors * cpu::tiles::kRows, kHeight = cpu::tiles::kRows;
  const int64_t steps = CeilDivide(pairs, kHeight);
  const TileOperand b = PanelTiles<kVectors>(p);
  for (int64_t k = 0; k < columns; k += 2 * kHeight) {
    const TileOperand a{values + k * kHeight, cpu::tiles::kRowBytes,
                        columns * cpu::tiles::kRowBytes, kHeight * cpu::tiles::kRowBytes};
    MultiplyTiles<2, kVectors, kAccumulate>(a, b, steps, out + k * kLanes, kLanes, meanwhile);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#endif  // TAMIAS_OPS_CPU_TILE_PRODUCTS_INL_H_
