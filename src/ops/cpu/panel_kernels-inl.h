// The two matrix products that column-sparse attention and the column-sparse MLP are made of, over
// a panel: kVectors SIMD vectors of tokens (query rows) side by side, panel [depth][lanes] with
// lanes = kVectors * Lanes(d). The other operand is a list of row pointers (keys, values, rows of
// W1 or W2), read in place one scalar at a time and broadcast, so gathering them costs nothing.
//   RowsTimesPanel:            out[r][lane]    = sum_k rows[r][k] * panel[k][lane]
//   AccumulateTransposedRows:  out[k][lane] (+)= sum_r rows[r][k] * p[r][lane]
// Accumulators stay in registers. The operands are floats, or pairs of bf16 along the depth that
// one instruction multiplies and adds (Products, below). Highway target code; include it after
// foreach_target.h.
#if defined(TAMIAS_OPS_CPU_PANEL_KERNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TAMIAS_OPS_CPU_PANEL_KERNELS_INL_H_
#undef TAMIAS_OPS_CPU_PANEL_KERNELS_INL_H_
#else
#define TAMIAS_OPS_CPU_PANEL_KERNELS_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "ops/cpu/widen-inl.h"
#include "tamias/dtype.h"

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

// Tiles of accumulators: with the panel's vectors and one broadcast they must fit the registers: 13
// * 2 + 2 * 2 + 1 of 32 (AVX-512, Arm) or 6 * 2 + 2 + 1 of 16. kDepthStep columns of the panel are
// held at a time, so that a row's pointer is loaded once for all of them.
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SCALAR
constexpr int kTileRows = 6;
constexpr int kDepthStep = 1;
#else
constexpr int kTileRows = 13;
constexpr int kDepthStep = 2;
#endif

// The same pointer, of which the compiler no longer knows where it came from: it then loads row
// pointers where they are used and addresses by displacement, instead of hoisting more pointers out
// of a loop than there are general registers (GCC spills them through the vector ports).
template <typename T>
HWY_INLINE T* Opaque(T* pointer) {
  asm("" : "+r"(pointer));
  return pointer;
}

constexpr int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Rows of a vector and of a full panel.
HWY_INLINE int64_t VectorLanes() { return static_cast<int64_t>(hn::Lanes(FloatTag())); }
HWY_INLINE int64_t PanelLanes() { return kPanelVectors * VectorLanes(); }

// What a tile calls once in every kUnrolledSteps rows or columns (about a hundred vector
// multiply-adds), e.g. to prefetch one cache line; this one does nothing.
struct NothingMeanwhile {
  HWY_INLINE void operator()() const {}
};
constexpr int kUnrolledSteps = 4;

// What a row gives to one step of a product, for all lanes: one float.
struct FloatProducts {
  using Element = float;
  static constexpr int kElements = 1;      // of a row, in one step
  static constexpr int kRows = kTileRows;  // of one tile
  static constexpr bool kTiles = false;    // of a matrix unit
  static HWY_INLINE FloatVector Broadcast(const float* row) { return hn::Set(FloatTag(), *row); }
  static HWY_INLINE FloatVector MulAdd(FloatVector a, FloatVector b, FloatVector sum) {
    return hn::MulAdd(a, b, sum);
  }
};

#if HWY_TARGET == HWY_AVX3
// Or two bf16 side by side, where the processor has AVX-512 BF16 (cpu::MultipliesBFloat16): lanes
// of panels and weights hold such pairs, as the bits of a float. An assembler instruction, because
// Highway has no target for this set, and functions compiled for one cannot be inlined into those
// of Highway's.
struct PairProducts {
  using Element = BFloat16;
  static constexpr int kElements = 2;
  static constexpr int kRows = kTileRows;
  static constexpr bool kTiles = false;
  static HWY_INLINE FloatVector Broadcast(const BFloat16* row) {
    uint32_t pair;
    std::memcpy(&pair, row, sizeof(pair));
    return hn::BitCast(FloatTag(), hn::Set(hn::RebindToUnsigned<FloatTag>(), pair));
  }
  // Of a row of odd length the last element, with 0 for a partner.
  static HWY_INLINE FloatVector BroadcastLast(const BFloat16* row) {
    return hn::BitCast(FloatTag(), hn::Set(hn::RebindToUnsigned<FloatTag>(), uint32_t{row->bits}));
  }
  static HWY_INLINE FloatVector MulAdd(FloatVector a, FloatVector b, FloatVector sum) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum.raw) : "v"(a.raw), "v"(b.raw));
    return sum;
  }
};
#endif

// Lanes of pairs, `first` in the lower halves, rounded half up: for finite values.
HWY_INLINE FloatVector PairOf(FloatVector first, FloatVector second) {
  const hn::RebindToUnsigned<FloatTag> du;
  const auto half = hn::Set(du, 0x8000u);
  const auto low = hn::ShiftRight<16>(hn::Add(hn::BitCast(du, first), half));
  const auto high = hn::And(hn::Add(hn::BitCast(du, second), half), hn::Set(du, 0xFFFF0000u));
  return hn::BitCast(FloatTag(), hn::Or(low, high));
}

// pairs[k] = (first[k], second[k]), k < count; without a second (null) its elements are 0.
HWY_INLINE void InterleaveRows(const BFloat16* first, const BFloat16* second, int64_t count,
                               BFloat16* pairs) {
  const hn::ScalableTag<uint32_t> du;
  const hn::Rebind<uint16_t, decltype(du)> d16;
  const auto* a = reinterpret_cast<const uint16_t*>(first);
  const auto* b = reinterpret_cast<const uint16_t*>(second);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(du));
  int64_t k = 0;
  for (; k + lanes <= count; k += lanes) {
    auto pair = hn::PromoteTo(du, hn::LoadU(d16, a + k));
    if (b != nullptr) {
      pair = hn::Or(pair, hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(d16, b + k))));
    }
    hn::StoreU(pair, du, reinterpret_cast<uint32_t*>(pairs + 2 * k));
  }
  for (; k < count; ++k) {
    pairs[2 * k] = first[k];
    pairs[2 * k + 1] = second != nullptr ? second[k] : BFloat16();
  }
}

// sum[r][v] += rows[r][k] * panel[k][v] for kStep consecutive k, in steps of the products.
template <class Products, int kStep, int kRows, int kVectors>
HWY_INLINE void AddColumns(const typename Products::Element* const* rows, int64_t k,
                           const float* HWY_RESTRICT panel, FloatVector (&sum)[kRows][kVectors]) {
  const FloatTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  FloatVector column[kStep][kVectors];
  TAMIAS_UNROLL
  for (int step = 0; step < kStep; ++step) {
    TAMIAS_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      column[step][v] = hn::Load(d, panel + (step * kVectors + v) * lanes);
    }
  }
  TAMIAS_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const typename Products::Element* row = rows[r] + k * Products::kElements;
    TAMIAS_UNROLL
    for (int step = 0; step < kStep; ++step) {
      const FloatVector scalar = Products::Broadcast(row + step * Products::kElements);
      TAMIAS_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        sum[r][v] = Products::MulAdd(scalar, column[step][v], sum[r][v]);
      }
    }
  }
}

// out[r][lane] for kRows rows, of pairs times `scale`. With kMaximum, maximum[lane] becomes the
// maximum of itself and all out[.][lane]; a NaN (of overflow in the products) is passed over on
// x86.
template <class Products, int kRows, int kVectors, bool kMaximum, class Meanwhile>
HWY_INLINE void RowsTile(const typename Products::Element* const* HWY_RESTRICT rows,
                         const float* HWY_RESTRICT panel, int64_t depth, float scale,
                         float* HWY_RESTRICT out, float* HWY_RESTRICT maximum,
                         Meanwhile& meanwhile) {
  const FloatTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  FloatVector sum[kRows][kVectors];
  TAMIAS_UNROLL
  for (int r = 0; r < kRows; ++r) {
    TAMIAS_UNROLL
    for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::Zero(d);
  }
  const int64_t steps = depth / Products::kElements;
  int64_t k = 0;
  for (; k + kUnrolledSteps <= steps; k += kUnrolledSteps) {
    meanwhile();
    TAMIAS_UNROLL
    for (int step = 0; step < kUnrolledSteps; step += kDepthStep) {
      AddColumns<Products, kDepthStep>(Opaque(rows), k + step, panel, sum);
      panel += kDepthStep * kVectors * lanes;
    }
  }
  for (; k < steps; ++k) {
    AddColumns<Products, 1>(rows, k, panel, sum);
    panel += kVectors * lanes;
  }
  if constexpr (Products::kElements == 2) {
    if (depth % 2 != 0) {
      for (int r = 0; r < kRows; ++r) {
        const FloatVector scalar = Products::BroadcastLast(rows[r] + depth - 1);
        for (int v = 0; v < kVectors; ++v) {
          sum[r][v] = Products::MulAdd(scalar, hn::Load(d, panel + v * lanes), sum[r][v]);
        }
      }
    }
    TAMIAS_UNROLL
    for (int r = 0; r < kRows; ++r) {
      TAMIAS_UNROLL
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::Mul(sum[r][v], hn::Set(d, scale));
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

// sum[k][v] += row[k] * p[v].
template <class Products, int kColumns, int kVectors>
HWY_INLINE void AddRow(const typename Products::Element* row, const float* HWY_RESTRICT p,
                       FloatVector (&sum)[kColumns][kVectors]) {
  const FloatTag d;
  row = Opaque(row);
  FloatVector weight[kVectors];
  TAMIAS_UNROLL
  for (int v = 0; v < kVectors; ++v) weight[v] = hn::Load(d, p + v * VectorLanes());
  TAMIAS_UNROLL
  for (int k = 0; k < kColumns; ++k) {
    const FloatVector scalar = Products::Broadcast(row + k * Products::kElements);
    TAMIAS_UNROLL
    for (int v = 0; v < kVectors; ++v) sum[k][v] = Products::MulAdd(scalar, weight[v], sum[k][v]);
  }
}

// out[k][lane] for kColumns consecutive k starting at `column`.
template <class Products, int kColumns, int kVectors, bool kAccumulate, class Meanwhile>
HWY_INLINE void TransposedRowsTile(const typename Products::Element* const* HWY_RESTRICT rows,
                                   int64_t num_rows, int64_t column, const float* HWY_RESTRICT p,
                                   float* HWY_RESTRICT out, Meanwhile& meanwhile) {
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
  int64_t r = 0;
  for (; r + kUnrolledSteps <= num_rows; r += kUnrolledSteps) {
    meanwhile();
    TAMIAS_UNROLL
    for (int step = 0; step < kUnrolledSteps; ++step) {
      AddRow<Products>(rows[r + step] + column * Products::kElements, p, sum);
      p += kVectors * lanes;
    }
  }
  for (; r < num_rows; ++r) {
    AddRow<Products>(rows[r] + column * Products::kElements, p, sum);
    p += kVectors * lanes;
  }
  TAMIAS_UNROLL
  for (int k = 0; k < kColumns; ++k) {
    TAMIAS_UNROLL
    for (int v = 0; v < kVectors; ++v) hn::Store(sum[k][v], d, out + (k * kVectors + v) * lanes);
  }
}

// Calls the tile with num_rows, 1 to kRows, as a template argument.
template <class Products, int kRows, int kVectors, bool kMaximum, class Meanwhile>
HWY_NOINLINE void RowsTileOf(int64_t num_rows, const typename Products::Element* const* rows,
                             const float* panel, int64_t depth, float scale, float* out,
                             float* maximum, Meanwhile& meanwhile) {
  if constexpr (kRows > 1) {
    if (num_rows < kRows) {
      return RowsTileOf<Products, kRows - 1, kVectors, kMaximum>(num_rows, rows, panel, depth,
                                                                 scale, out, maximum, meanwhile);
    }
  }
  RowsTile<Products, kRows, kVectors, kMaximum>(rows, panel, depth, scale, out, maximum, meanwhile);
}

template <class Products, int kColumns, int kVectors, bool kAccumulate, class Meanwhile>
HWY_NOINLINE void TransposedRowsTileOf(int64_t columns,
                                       const typename Products::Element* const* rows,
                                       int64_t num_rows, int64_t column, const float* p, float* out,
                                       Meanwhile& meanwhile) {
  if constexpr (kColumns > 1) {
    if (columns < kColumns) {
      return TransposedRowsTileOf<Products, kColumns - 1, kVectors, kAccumulate>(
          columns, rows, num_rows, column, p, out, meanwhile);
    }
  }
  TransposedRowsTile<Products, kColumns, kVectors, kAccumulate>(rows, num_rows, column, p, out,
                                                                meanwhile);
}

// out[r][lane] = sum over k < depth of rows[r][k] * panel[k][lane], r < num_rows.
// panel and out are vector-aligned, out [num_rows][lanes]. Products of pairs: panel [ceil(depth /
// 2)][lanes] of pairs, and out is multiplied by `scale` (bf16 has no room for it in the panel); for
// floats it counts for nothing. kMaximum: see RowsTile; else pass null.
template <class Products, int kVectors, bool kMaximum, class Meanwhile>
HWY_INLINE void RowsTimesPanel(const typename Products::Element* const* rows, int64_t num_rows,
                               const float* panel, int64_t depth, float scale, float* out,
                               float* maximum, Meanwhile& meanwhile) {
  const int64_t lanes = kVectors * VectorLanes();
  const int64_t tiles = CeilDivide(num_rows, kTileRows);  // of nearly equal size
  for (int64_t tile = 0, r = 0; tile < tiles; ++tile) {
    const int64_t end = num_rows * (tile + 1) / tiles;
    RowsTileOf<Products, kTileRows, kVectors, kMaximum>(end - r, rows + r, panel, depth, scale,
                                                        out + r * lanes, maximum, meanwhile);
    r = end;
  }
}

template <class Products, int kVectors>
HWY_INLINE void RowsTimesPanel(const typename Products::Element* const* rows, int64_t num_rows,
                               const float* panel, int64_t depth, float* out) {
  NothingMeanwhile nothing;
  RowsTimesPanel<Products, kVectors, false>(rows, num_rows, panel, depth, /*scale=*/1, out, nullptr,
                                            nothing);
}

// out[k][lane] = (kAccumulate ? out[k][lane] : 0) + sum over r < num_rows of rows[r][k] *
// p[r][lane], k < columns. p and out are vector-aligned, p [num_rows][lanes], out [columns][lanes].
// Products of pairs: rows and p hold pairs of two rows each (InterleaveRows, PairOf).
template <class Products, int kVectors, bool kAccumulate, class Meanwhile>
HWY_INLINE void AccumulateTransposedRows(const typename Products::Element* const* rows,
                                         int64_t num_rows, int64_t columns, const float* p,
                                         float* out, Meanwhile& meanwhile) {
  const int64_t lanes = kVectors * VectorLanes();
  const int64_t tiles = CeilDivide(columns, kTileRows);
  for (int64_t tile = 0, k = 0; tile < tiles; ++tile) {
    const int64_t end = columns * (tile + 1) / tiles;
    TransposedRowsTileOf<Products, kTileRows, kVectors, kAccumulate>(end - k, rows, num_rows, k, p,
                                                                     out + k * lanes, meanwhile);
    k = end;
  }
}

// Transposes the 4 x 4 blocks that the four vectors form in each 128-bit part.
HWY_INLINE void TransposeBlocks(FloatVector& a, FloatVector& b, FloatVector& c, FloatVector& e) {
#if HWY_TARGET != HWY_SCALAR
  const FloatTag d;
  const FloatVector ac_low = hn::InterleaveLower(d, a, c);
  const FloatVector be_low = hn::InterleaveLower(d, b, e);
  const FloatVector ac_high = hn::InterleaveUpper(d, a, c);
  const FloatVector be_high = hn::InterleaveUpper(d, b, e);
  a = hn::InterleaveLower(d, ac_low, be_low);
  b = hn::InterleaveUpper(d, ac_low, be_low);
  c = hn::InterleaveLower(d, ac_high, be_high);
  e = hn::InterleaveUpper(d, ac_high, be_high);
#else
  (void)a, (void)b, (void)c, (void)e;
#endif
}

// The vector of four lanes and more whose part i, of four lanes, is load(tag, rows[4 * i]).
template <class D, typename Row, class Load>
HWY_INLINE hn::Vec<D> CombineParts(D d, const Row* rows, const Load& load) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    return load(d, rows[0]);
#if HWY_TARGET != HWY_SCALAR
  } else {
    const hn::Half<D> half;
    return hn::Combine(d, CombineParts(half, rows + hn::MaxLanes(d) / 2, load),
                       CombineParts(half, rows, load));
#endif
  }
}

// store(tag, part i of the vector, rows[4 * i]), likewise.
template <class D, typename Row, class Store, class V = hn::Vec<D>>
HWY_INLINE void SplitParts(D d, V vector, const Row* rows, const Store& store) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    store(d, vector, rows[0]);
#if HWY_TARGET != HWY_SCALAR
  } else {
    const hn::Half<D> half;
    SplitParts(half, hn::LowerHalf(half, vector), rows, store);
    SplitParts(half, hn::UpperHalf(half, vector), rows + hn::MaxLanes(d) / 2, store);
#endif
  }
}

// A vector whose 128-bit part i is rows[4 * i][column .. column + 3].
template <class D>
HWY_INLINE hn::Vec<D> LoadBlocks(D d, const float* const* rows, int64_t column) {
  return CombineParts(d, rows, [column](auto part, const float* row) HWY_ATTR {
    return hn::LoadU(part, row + column);
  });
}

template <class D>
HWY_INLINE hn::Vec<D> LoadBlocks(D d, const BFloat16* const* rows, int64_t column) {
  const hn::RebindToUnsigned<D> du;
  const hn::Rebind<uint16_t, D> d16;
  const auto bits = CombineParts(d16, rows, [column](auto part, const BFloat16* row) HWY_ATTR {
    return hn::LoadU(part, reinterpret_cast<const uint16_t*>(row + column));
  });
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, bits)));
}

// A vector whose 128-bit part i is the pairs rows[4 * i][2 * step .. 2 * step + 7].
template <class D>
HWY_INLINE hn::Vec<D> LoadPairBlocks(D d, const BFloat16* const* rows, int64_t step) {
  return CombineParts(d, rows, [step](auto part, const BFloat16* row) HWY_ATTR {
    const hn::Repartition<uint16_t, decltype(part)> halves;
    return hn::BitCast(part, hn::LoadU(halves, reinterpret_cast<const uint16_t*>(row + 2 * step)));
  });
}

// panel[k][lane] = the pair rows[lane][2 k, 2 k + 1], the last with 0 where depth is odd, for
// kVectors * Lanes rows.
template <int kVectors>
HWY_INLINE void LoadPairPanel(const BFloat16* const* rows, int64_t depth, float* panel) {
  const FloatTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t steps = depth / 2;
  int64_t k = 0;
  for (; k + 4 <= steps; k += 4) {
    for (int v = 0; v < kVectors; ++v) {
      const BFloat16* const* part = Opaque(rows + v * lanes);
      FloatVector a = LoadPairBlocks(d, part, k);
      FloatVector b = LoadPairBlocks(d, part + 1, k);
      FloatVector c = LoadPairBlocks(d, part + 2, k);
      FloatVector e = LoadPairBlocks(d, part + 3, k);
      TransposeBlocks(a, b, c, e);
      float* to = panel + (k * kVectors + v) * lanes;
      hn::Store(a, d, to);
      hn::Store(b, d, to + kVectors * lanes);
      hn::Store(c, d, to + 2 * kVectors * lanes);
      hn::Store(e, d, to + 3 * kVectors * lanes);
    }
  }
  for (; k < CeilDivide(depth, 2); ++k) {
    for (int64_t i = 0; i < kVectors * lanes; ++i) {
      BFloat16 pair[2] = {rows[i][2 * k], BFloat16()};
      if (2 * k + 1 < depth) pair[1] = rows[i][2 * k + 1];
      std::memcpy(panel + k * kVectors * lanes + i, pair, sizeof(pair));
    }
  }
}

// panel[k][lane] = scale * rows[lane][k], k < depth, for kVectors * Lanes rows of floats or bf16.
template <int kVectors, typename T>
HWY_INLINE void LoadPanel(const T* const* rows, int64_t depth, float scale, float* panel) {
  const FloatTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const FloatVector factor = hn::Set(d, scale);
  int64_t k = 0;
  for (; hn::MaxLanes(FloatTag()) >= 4 && k + 4 <= depth; k += 4) {
    for (int v = 0; v < kVectors; ++v) {
      const T* const* part = Opaque(rows + v * lanes);
      FloatVector a = LoadBlocks(d, part, k);
      FloatVector b = LoadBlocks(d, part + 1, k);
      FloatVector c = LoadBlocks(d, part + 2, k);
      FloatVector e = LoadBlocks(d, part + 3, k);
      TransposeBlocks(a, b, c, e);
      float* to = panel + (k * kVectors + v) * lanes;
      hn::Store(hn::Mul(factor, a), d, to);
      hn::Store(hn::Mul(factor, b), d, to + kVectors * lanes);
      hn::Store(hn::Mul(factor, c), d, to + 2 * kVectors * lanes);
      hn::Store(hn::Mul(factor, e), d, to + 3 * kVectors * lanes);
    }
  }
  for (; k < depth; ++k) {
    for (int64_t i = 0; i < kVectors * lanes; ++i) {
      panel[k * kVectors * lanes + i] = scale * ToFloat(rows[i][k]);
    }
  }
}

// A vector whose 128-bit part i repeats from[4 * i].
template <class D>
HWY_INLINE hn::Vec<D> LoadQuads(D d, const float* from) {
  return CombineParts(d, from,
                      [](auto part, float value) HWY_ATTR { return hn::Set(part, value); });
}

// Writes 128-bit part i of the vector to rows[4 * i][column .. column + 3].
template <class D, class V = hn::Vec<D>>
HWY_INLINE void StoreBlocks(D d, V vector, float* const* rows, int64_t column) {
  SplitParts(d, vector, rows, [column](auto part, auto values, float* row) HWY_ATTR {
    hn::StoreU(values, part, row + column);
  });
}

// The same in bf16.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void StoreBlocks(D d, V vector, BFloat16* const* rows, int64_t column) {
  SplitParts(hn::Rebind<uint16_t, D>(), lanes::NarrowedBits(d, vector), rows,
             [column](auto part, auto bits, BFloat16* row)
                 HWY_ATTR { hn::StoreU(bits, part, reinterpret_cast<uint16_t*>(row + column)); });
}

// rows[lane][k] = panel[k][lane] * weight[lane] + base[lane][k] * base_weight[lane], k < depth; the
// second term only with kBase. weight is vector-aligned. A row of base may be the row written to.
template <int kVectors, bool kBase, typename T>
HWY_INLINE void StorePanel(const float* panel, int64_t depth, const float* weight,
                           const T* const* base, const float* base_weight, T* const* rows) {
  const FloatTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t k = 0;
  for (; hn::MaxLanes(FloatTag()) >= 4 && k + 4 <= depth; k += 4) {
    for (int v = 0; v < kVectors; ++v) {
      const FloatVector factor = hn::Load(d, weight + v * lanes);
      const float* from = panel + (k * kVectors + v) * lanes;
      FloatVector part[4];
      TAMIAS_UNROLL
      for (int i = 0; i < 4; ++i) {
        part[i] = hn::Mul(factor, hn::Load(d, from + i * kVectors * lanes));
      }
      TransposeBlocks(part[0], part[1], part[2], part[3]);
      TAMIAS_UNROLL
      for (int i = 0; i < 4; ++i) {  // part i holds the rows 4 * block + i
        const int64_t row = v * lanes + i;
        if (kBase) {
          const FloatVector old = LoadBlocks(d, Opaque(base + row), k);
          part[i] = hn::MulAdd(old, LoadQuads(d, base_weight + row), part[i]);
        }
        StoreBlocks(d, part[i], Opaque(rows + row), k);
      }
    }
  }
  for (; k < depth; ++k) {
    for (int64_t i = 0; i < kVectors * lanes; ++i) {
      const float ours = panel[k * kVectors * lanes + i] * weight[i];
      cpu::SetFloat(kBase ? ours + ToFloat(base[i][k]) * base_weight[i] : ours, rows[i][k]);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#endif  // TAMIAS_OPS_CPU_PANEL_KERNELS_INL_H_
