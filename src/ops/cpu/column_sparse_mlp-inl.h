// The two products of the column-sparse MLP for one task (see column_sparse_mlp_task.h).
// First product: tokens along the lanes, rows of W1 read in place and broadcast
// (panel_kernels-inl.h). Second product: output columns along the lanes, so that rows of the
// transposed W2 are read in place as vectors, deltas are broadcast, and the output needs no
// transposition. Products are of floats or of pairs of bf16 (panel_kernels-inl.h): the first
// product pairs along the model width, the second along the neurons, whose deltas and rows of W2
// are packed for it. On tiles of AMX both work on copies side by side (tile_products-inl.h): of the
// rows of W1, and of the deltas with each token's pairs in a row. Highway target code: include it
// after foreach_target.h.
#if defined(TAMIAS_OPS_CPU_COLUMN_SPARSE_MLP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TAMIAS_OPS_CPU_COLUMN_SPARSE_MLP_INL_H_
#undef TAMIAS_OPS_CPU_COLUMN_SPARSE_MLP_INL_H_
#else
#define TAMIAS_OPS_CPU_COLUMN_SPARSE_MLP_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <algorithm>

#include "ops/cpu/activation-inl.h"
#include "ops/cpu/column_sparse_mlp_task.h"
#include "ops/cpu/lanes-inl.h"
#include "ops/cpu/panel_kernels-inl.h"
#include "ops/cpu/tail-inl.h"
#include "ops/cpu/tile_products-inl.h"
#include "ops/cpu/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace mlp {
namespace hn = hwy::HWY_NAMESPACE;

// output[i] = source[i] in f32, i < count.
HWY_INLINE void ConvertRow(DType dtype, const void* source, int64_t count, float* output) {
  const FloatTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  if (dtype == DType::kBF16) {
    const hn::Rebind<hwy::bfloat16_t, FloatTag> half;
    const auto* from = static_cast<const hwy::bfloat16_t*>(source);
    for (; i + lanes <= count; i += lanes) {
      hn::StoreU(hn::PromoteTo(d, hn::LoadU(half, from + i)), d, output + i);
    }
    for (; i < count; ++i) output[i] = ToFloat(static_cast<const BFloat16*>(source)[i]);
  } else {
    const hn::Rebind<hwy::float16_t, FloatTag> half;
    const auto* from = static_cast<const hwy::float16_t*>(source);
    for (; i + lanes <= count; i += lanes) {
      hn::StoreU(hn::PromoteTo(d, hn::LoadU(half, from + i)), d, output + i);
    }
    for (; i < count; ++i) output[i] = ToFloat(static_cast<const Float16*>(source)[i]);
  }
}

HWY_INLINE float LoadScalar(const ConstTensorView& values, int64_t i) {
  switch (values.dtype()) {
    case DType::kF16:
      return ToFloat(static_cast<const Float16*>(values.raw())[i]);
    case DType::kBF16:
      return ToFloat(static_cast<const BFloat16*>(values.raw())[i]);
    default:
      return static_cast<const float*>(values.raw())[i];
  }
}

// The rows of W1 of one register tile, as the products read them, and biases.
template <class Products>
struct TileRows {
  const typename Products::Element* rows[Products::kRows];
  float bias[Products::kRows];
};

// Rows indices[0 .. num_rows) + offset of W1. Products of floats: 16-bit rows are converted into
// `converted`; of tiles: rows are copied there.
template <class Products>
HWY_INLINE void LoadTileRows(const MlpWeights& weights, const int32_t* indices, int64_t num_rows,
                             int64_t offset, float* converted, TileRows<Products>* tile) {
  using Element = typename Products::Element;
  const ConstTensorView& weight = weights.fc1_weight;
  const int64_t row_bytes = weight.stride(0) * static_cast<int64_t>(SizeOf(weight.dtype()));
  const int64_t depth = weight.dim(1);
  for (int64_t r = 0; r < num_rows; ++r) {
    const int64_t row = indices[r] + offset;
    const void* source = static_cast<const uint8_t*>(weight.raw()) + row * row_bytes;
    if constexpr (Products::kTiles) {
      auto* copy = reinterpret_cast<Element*>(converted) + r * depth;
      std::copy_n(static_cast<const Element*>(source), depth, copy);
      tile->rows[r] = copy;
    } else if (weight.dtype() == DTypeOf<Element>::value) {
      tile->rows[r] = static_cast<const Element*>(source);
    } else if constexpr (Products::kElements == 1) {
      ConvertRow(weight.dtype(), source, depth, converted + r * depth);
      tile->rows[r] = converted + r * depth;
    }
    tile->bias[r] = weights.fc1_bias.empty() ? 0.0f : LoadScalar(weights.fc1_bias, row);
  }
}

// One vector of tokens of one neuron: the activation, the change and the new cache entry.
template <Activation kActivation>
HWY_INLINE FloatVector Activate(const MlpWeights& weights, FloatVector first, FloatVector second) {
  const FloatTag d;
  if (!weights.gated) return activation::Apply<kActivation>(d, first);
  return weights.gate_first ? hn::Mul(activation::Apply<kActivation>(d, first), second)
                            : hn::Mul(first, activation::Apply<kActivation>(d, second));
}

// A value as a cache of this type keeps it.
HWY_INLINE FloatVector AsCached(FloatVector value, const float* /*cache*/) { return value; }
HWY_INLINE FloatVector AsCached(FloatVector value, const hwy::bfloat16_t* /*cache*/) {
  const FloatTag d;
  const hn::RebindToUnsigned<FloatTag> du;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, lanes::NarrowedBits(d, value))));
}

// products [num_rows][lanes] (gated: a second half after Products::kRows rows) -> cache [F][cache
// stride] and delta, for the tokens of one panel, whose first is `token`. The delta is taken
// between what the cache keeps, rounded where it is bf16, so that deltas added up follow the cache.
template <Activation kActivation, class Products, typename T>
HWY_INLINE void FinishTile(const cpu::MlpTask& task, T* task_cache, const int32_t* indices,
                           int64_t num_rows, const TileRows<Products>* tiles, const float* products,
                           int64_t token, int64_t panel_lanes, float* delta, int64_t delta_stride) {
  const FloatTag d;
  const hn::CappedTag<float, 1> one;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t end = std::min(token + panel_lanes, task.cache_lanes);
  for (int64_t r = 0; r < num_rows; ++r) {
    T* cache = task_cache + indices[r] * task.cache_stride;
    float* changes = delta + r * delta_stride;
    const float* first = products + r * panel_lanes - token;
    const float* second = first + Products::kRows * panel_lanes;
    const FloatVector first_bias = hn::Set(d, tiles[0].bias[r]);
    for (int64_t i = token; i < end; i += lanes) {
      const FloatVector x = hn::Add(hn::LoadU(d, first + i), first_bias);
      FloatVector y = x;
      if (task.weights->gated) y = hn::Add(hn::LoadU(d, second + i), hn::Set(d, tiles[1].bias[r]));
      const FloatVector value = AsCached(Activate<kActivation>(*task.weights, x, y), cache);
      if (i + lanes <= end) {
        hn::StoreU(hn::Sub(value, lanes::LoadWidened(d, cache + i)), d, changes + i);
        lanes::StoreNarrowed(value, d, cache + i);
      } else {
        HWY_ALIGN float values[hn::MaxLanes(FloatTag())];
        hn::Store(value, d, values);
        for (int64_t k = i; k < end; ++k) {
          changes[k] = values[k - i] - hn::GetLane(lanes::LoadWidened(one, cache + k));
          lanes::StoreNarrowed(hn::Set(one, values[k - i]), one, cache + k);
        }
      }
    }
  }
}

// The tokens of the task, transposed into panels [model_dim / elements of a step][panel_lanes] one
// after the other.
template <class Products>
HWY_INLINE void FillPanels(const cpu::MlpTask& task, float* panels) {
  const int64_t panel_lanes = PanelLanes();
  const auto fill = [&](const auto* input, int64_t stride, int64_t depth) HWY_ATTR {
    for (int64_t token = 0; token < task.tokens; token += panel_lanes) {
      transpose::TransposeTokens(input + token * stride, stride,
                                 std::min(panel_lanes, task.tokens - token), panel_lanes, depth,
                                 panels + token * depth, panel_lanes);
    }
  };
  if constexpr (Products::kElements == 2) {  // pairs move as the bits of floats
    fill(task.input.As<float>(), task.input_stride / 2, task.model_dim / 2);
  } else {
    lanes::WithElements([&](const auto* input)
                            HWY_ATTR { fill(input, task.input_stride, task.model_dim); },
                        task.input);
  }
}

// Where the change of neuron j and token t is kept: data[t / panel_lanes * panel_stride +
// j * row_stride + t % panel_lanes].
struct DeltaLayout {
  float* data;
  int64_t panel_stride;
  int64_t row_stride;
};

// Asks for `bytes` from `address` on, a cache line at a time.
HWY_INLINE void PrefetchBytes(const void* address, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) {
    hwy::Prefetch(static_cast<const uint8_t*>(address) + i);
  }
}

// products [num_rows][lanes] = rows [num_rows][depth] times a panel.
template <class Products>
HWY_INLINE void TileTimesPanel(const TileRows<Products>& tile, int64_t num_rows, const float* panel,
                               int64_t depth, float* products) {
  if constexpr (Products::kTiles) {
    NothingMeanwhile nothing;
    TileRowsTimesPanel<kPanelVectors>(tile.rows[0], num_rows, panel, depth, products, nothing);
  } else {
    RowsTimesPanel<Products, kPanelVectors>(tile.rows, num_rows, panel, depth, products);
  }
}

// Neurons indices[0 .. count) of the first product, into the cache and the delta.
template <class Products>
HWY_INLINE void FirstProduct(const cpu::MlpTask& task, const int32_t* indices, int64_t count,
                             const float* panels, float* products, float* converted,
                             const DeltaLayout& delta) {
  const int64_t panel_lanes = PanelLanes(), depth = task.model_dim;
  const int64_t neurons = task.weights->fc1_weight.dim(0) / 2;  // of a gated MLP
  const int64_t tiles = CeilDivide(count, Products::kRows);
  const auto cache_bytes = static_cast<int64_t>(SizeOf(task.cache.dtype));
  TileRows<Products> tile_rows[2];
  for (int64_t tile = 0, j = 0; tile < tiles; ++tile) {
    const int64_t rows = count * (tile + 1) / tiles - j;
    LoadTileRows(*task.weights, indices + j, rows, 0, converted, &tile_rows[0]);
    if (task.weights->gated) {
      LoadTileRows(*task.weights, indices + j, rows, neurons, converted + Products::kRows * depth,
                   &tile_rows[1]);
    }
    for (int64_t token = 0; token < task.tokens; token += panel_lanes) {
      const float* panel = panels + token * (depth / Products::kElements);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t entry = indices[j + r] * task.cache_stride + token;
        PrefetchBytes(static_cast<const uint8_t*>(task.cache.data) + entry * cache_bytes,
                      panel_lanes * cache_bytes);
      }
      TileTimesPanel(tile_rows[0], rows, panel, depth, products);
      if (task.weights->gated) {
        TileTimesPanel(tile_rows[1], rows, panel, depth, products + Products::kRows * panel_lanes);
      }
      float* tile_delta =
          delta.data + token / panel_lanes * delta.panel_stride + j * delta.row_stride - token;
      activation::WithActivation(task.weights->activation, [&](auto constant) HWY_ATTR {
        lanes::WithElements(
            [&](auto* cache) HWY_ATTR {
              FinishTile<decltype(constant)::value>(task, cache, indices + j, rows, tile_rows,
                                                    products, token, panel_lanes, tile_delta,
                                                    delta.row_stride);
            },
            task.cache);
      });
    }
    j += rows;
  }
}

// The caller's delta of a block of neurons, from the layout it is computed in to its own, or back.
template <bool kStores>
HWY_INLINE void CopyDelta(const cpu::MlpTask& task, int64_t first, int64_t count,
                          const DeltaLayout& delta) {
  lanes::WithElements(
      [&](auto* of_caller) HWY_ATTR {
        for (int64_t j = 0; j < count; ++j) {
          auto* row = of_caller + (first + j) * task.delta_stride;
          for (int64_t token = 0; token < task.tokens; token += PanelLanes()) {
            float* ours =
                delta.data + token / PanelLanes() * delta.panel_stride + j * delta.row_stride;
            const int64_t tokens = std::min(PanelLanes(), task.tokens - token);
            lanes::ForEach(static_cast<size_t>(tokens), [&](auto d, size_t i) HWY_ATTR {
              auto* theirs = row + token + static_cast<int64_t>(i);
              if (kStores) {
                lanes::StoreNarrowed(hn::LoadU(d, ours + i), d, theirs);
              } else {
                hn::StoreU(lanes::LoadWidened(d, theirs), d, ours + i);
              }
            });
          }
        }
      },
      task.delta);
}

// Rows 2 j and 2 j + 1 of the delta become row j, of pairs; past the last row are zeros.
HWY_INLINE void PairDelta(int64_t tokens, int64_t count, const DeltaLayout& delta) {
  const FloatTag d;
  for (int64_t token = 0; token < tokens; token += PanelLanes()) {
    float* panel = delta.data + token / PanelLanes() * delta.panel_stride;
    for (int64_t j = 0; j < count; j += 2) {
      const float* from = panel + j * delta.row_stride;
      float* to = panel + j / 2 * delta.row_stride;
      for (int64_t i = 0; i < PanelLanes(); i += VectorLanes()) {
        const FloatVector second =
            j + 1 < count ? hn::Load(d, from + delta.row_stride + i) : hn::Zero(d);
        hn::Store(PairOf(hn::Load(d, from + i), second), d, to + i);
      }
    }
  }
}

// Of a paired delta of `count` neurons, panel by panel: [16 pairs of neurons at a
// time][token][pair], zeros past the last pair, into the rows that pairing left free. Returns where
// those begin, counted from a panel's.
template <class Products>
HWY_INLINE int64_t TransposeDelta(int64_t tokens, int64_t count, const DeltaLayout& delta) {
  constexpr int64_t kPairs = cpu::tiles::kRows;
  const int64_t lanes = PanelLanes(), pairs = CeilDivide(count, 2);
  const int64_t free_row = CeilDivide(pairs, kPairs) * kPairs * delta.row_stride;
  for (int64_t token = 0; token < tokens; token += lanes) {
    float* panel = delta.data + token / lanes * delta.panel_stride;
    for (int64_t first = 0; first < pairs; first += kPairs) {
      const BFloat16* rows[kPairs];
      for (int64_t i = 0; i < kPairs; ++i) {
        float* row = panel + (first + i) * delta.row_stride;
        if (first + i >= pairs) std::fill_n(row, lanes, 0.0f);
        rows[i] = reinterpret_cast<const BFloat16*>(row);
      }
      LoadPairPanel<1>(rows, 2 * lanes, panel + free_row + first * lanes);
    }
  }
  return free_row;
}

// output[t][lane] += sum over the neurons of changes[t][neuron] * strip[neuron][lane] for up to 32
// tokens and 32 columns. changes: a panel of TransposeDelta.
template <class Products>
HWY_NOINLINE void OutputTiles(const float* strip, int64_t pairs, const float* changes,
                              int64_t tokens, float* output, int64_t output_stride) {
  constexpr int64_t kHeight = cpu::tiles::kRows, kLanes = kPanelVectors * kHeight;
  NothingMeanwhile nothing;
  const TileOperand b = PanelTiles<kPanelVectors>(strip);
  const int64_t steps = CeilDivide(pairs, kHeight);
  for (int64_t t = 0; t < tokens; t += kHeight) {
    const TileOperand a{changes + t * kHeight, cpu::tiles::kRowBytes,
                        kLanes * cpu::tiles::kRowBytes};
    float* out = output + t * output_stride;
    if (tokens - t >= kHeight) {
      MultiplyTiles<1, kPanelVectors, true>(a, b, steps, out, output_stride, nothing);
      continue;
    }
    HWY_ALIGN float sums[kHeight * kLanes];
    MultiplyTiles<1, kPanelVectors, false>(a, b, steps, sums, kLanes, nothing);
    for (int64_t i = 0; i < tokens - t; ++i) {
      for (int64_t k = 0; k < kLanes; ++k) out[i * output_stride + k] += sums[i * kLanes + k];
    }
  }
}

// A register tile of the second product, kTokens tokens by the lanes of a strip of columns:
// output[t][lane] += sum over r of delta[r * delta_stride + t] * strip[r][lane].
// kMasked: only the first `columns` lanes exist in the output.
template <class Products, int kTokens, bool kMasked>
HWY_INLINE void OutputTile(const float* HWY_RESTRICT strip, int64_t num_rows, int64_t columns,
                           const float* HWY_RESTRICT delta, int64_t delta_stride,
                           float* HWY_RESTRICT output, int64_t output_stride) {
  const FloatTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  FloatVector sum[kTokens][kPanelVectors];
  TAMIAS_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    TAMIAS_UNROLL
    for (int v = 0; v < kPanelVectors; ++v) {
      sum[t][v] = hn::Zero(d);
      hwy::Prefetch(output + t * output_stride + v * lanes);
    }
  }
  for (int64_t r = 0; r < num_rows; ++r) {
    FloatVector weight[kPanelVectors];
    TAMIAS_UNROLL
    for (int v = 0; v < kPanelVectors; ++v) weight[v] = hn::Load(d, strip + v * lanes);
    strip += kPanelVectors * lanes;
    TAMIAS_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      const FloatVector change =
          Products::Broadcast(reinterpret_cast<const typename Products::Element*>(delta + t));
      TAMIAS_UNROLL
      for (int v = 0; v < kPanelVectors; ++v) {
        sum[t][v] = Products::MulAdd(change, weight[v], sum[t][v]);
      }
    }
    delta += delta_stride;
  }
  TAMIAS_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    TAMIAS_UNROLL
    for (int v = 0; v < kPanelVectors; ++v) {
      float* out = output + t * output_stride + v * lanes;
      if (!kMasked) {
        hn::StoreU(hn::Add(sum[t][v], hn::LoadU(d, out)), d, out);
      } else if (columns > v * lanes) {
        const int64_t inside = std::min(columns - v * lanes, lanes);
        tail::StoreFirst(hn::Add(sum[t][v], tail::LoadFirst(d, out, inside)), d, out, inside);
      }
    }
  }
}

// Calls the tile with the number of tokens as a template argument, 1 <= tokens <= kTokens.
template <class Products, int kTokens, bool kMasked>
HWY_NOINLINE void OutputTileOf(int64_t tokens, const float* strip, int64_t num_rows,
                               int64_t columns, const float* delta, int64_t delta_stride,
                               float* output, int64_t output_stride) {
  if constexpr (kTokens > 1) {
    if (tokens < kTokens) {
      return OutputTileOf<Products, kTokens - 1, kMasked>(tokens, strip, num_rows, columns, delta,
                                                          delta_stride, output, output_stride);
    }
  }
  OutputTile<Products, kTokens, kMasked>(strip, num_rows, columns, delta, delta_stride, output,
                                         output_stride);
}

// strip[j][lane] = row indices[j] of the transposed W2, columns [column, column + panel lanes), 0
// past the last.
HWY_INLINE void PackStrip(const cpu::MlpTask& task, const int32_t* indices, int64_t count,
                          int64_t column, float* strip) {
  const int64_t panel_lanes = PanelLanes();
  const int64_t columns = std::min(panel_lanes, task.model_dim - column);
  lanes::WithElements(
      [&](const auto* weight) HWY_ATTR {
        for (int64_t j = 0; j < count; ++j, strip += panel_lanes) {
          const auto* row = weight + indices[j] * task.model_dim;
          lanes::ForEach(static_cast<size_t>(columns), [&](auto d, size_t i) HWY_ATTR {
            hn::StoreU(lanes::LoadWidened(d, row + i), d, strip + i);
          });
          std::fill(strip + columns, strip + panel_lanes, 0.0f);
        }
      },
      cpu::ElementsAt(task.weights->fc2_weight_transposed, column));
}

// The same in pairs of rows: strip[j][lane] = rows indices[2 j] and indices[2 j + 1].
HWY_INLINE void PackPairStrip(const cpu::MlpTask& task, const int32_t* indices, int64_t count,
                              int64_t column, float* strip) {
  const int64_t panel_lanes = PanelLanes();
  const int64_t columns = std::min(panel_lanes, task.model_dim - column);
  const BFloat16* weight = task.weights->fc2_weight_transposed.data<BFloat16>() + column;
  for (int64_t j = 0; j < count; j += 2, strip += panel_lanes) {
    const BFloat16* partner = j + 1 < count ? weight + indices[j + 1] * task.model_dim : nullptr;
    InterleaveRows(weight + indices[j] * task.model_dim, partner, columns,
                   reinterpret_cast<BFloat16*>(strip));
    std::fill(strip + columns, strip + panel_lanes, 0.0f);
  }
}

// Columns [column, column + panel lanes) of the output by a strip of as many neurons, tokens of one
// panel after the other.
template <class Products>
HWY_INLINE void AddStrip(const cpu::MlpTask& task, int64_t column, const float* strip,
                         int64_t steps, const DeltaLayout& delta) {
  const int64_t panel_lanes = PanelLanes(), columns = task.model_dim - column;
  for (int64_t panel = 0; panel < task.tokens; panel += panel_lanes) {
    const int64_t tokens = std::min(panel_lanes, task.tokens - panel);
    const int64_t tiles = CeilDivide(tokens, kTileRows);
    for (int64_t tile = 0, t = 0; tile < tiles; ++tile) {
      const int64_t end = tokens * (tile + 1) / tiles;
      const float* tile_delta = delta.data + panel / panel_lanes * delta.panel_stride + t;
      float* output = task.output + (panel + t) * task.output_stride + column;
      if (columns >= panel_lanes) {
        OutputTileOf<Products, kTileRows, false>(end - t, strip, steps, columns, tile_delta,
                                                 delta.row_stride, output, task.output_stride);
      } else {
        OutputTileOf<Products, kTileRows, true>(end - t, strip, steps, columns, tile_delta,
                                                delta.row_stride, output, task.output_stride);
      }
      t = end;
    }
  }
}

// The same on tiles, of whole strips: `transposed` is where TransposeDelta left a panel's deltas.
template <class Products>
HWY_INLINE void AddTileStrip(const cpu::MlpTask& task, int64_t column, float* strip, int64_t pairs,
                             const DeltaLayout& delta, int64_t transposed) {
  const int64_t panel_lanes = PanelLanes();
  const int64_t whole = CeilDivide(pairs, cpu::tiles::kRows) * cpu::tiles::kRows;
  std::fill(strip + pairs * panel_lanes, strip + whole * panel_lanes, 0.0f);
  for (int64_t token = 0; token < task.tokens; token += panel_lanes) {
    OutputTiles<Products>(strip, pairs,
                          delta.data + token / panel_lanes * delta.panel_stride + transposed,
                          std::min(panel_lanes, task.tokens - token),
                          task.output + token * task.output_stride + column, task.output_stride);
  }
}

// output += delta [count neurons][tokens] times rows indices[0 .. count) of the transposed W2. Of
// pairs: the delta has been paired.
template <class Products>
HWY_INLINE void SecondProduct(const cpu::MlpTask& task, const int32_t* indices, int64_t count,
                              const DeltaLayout& delta, float* strip) {
  const int64_t steps = CeilDivide(count, Products::kElements);
  [[maybe_unused]] int64_t transposed = 0;
  if constexpr (Products::kTiles) {
    transposed = TransposeDelta<Products>(task.tokens, count, delta);
  }
  for (int64_t column = 0; column < task.model_dim; column += PanelLanes()) {
    if constexpr (Products::kElements == 2) {
      PackPairStrip(task, indices, count, column, strip);
    } else {
      PackStrip(task, indices, count, column, strip);
    }
    if constexpr (Products::kTiles) {
      AddTileStrip<Products>(task, column, strip, steps, delta, transposed);
    } else {
      AddStrip<Products>(task, column, strip, steps, delta);
    }
  }
}

}  // namespace mlp
}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#endif  // TAMIAS_OPS_CPU_COLUMN_SPARSE_MLP_INL_H_
