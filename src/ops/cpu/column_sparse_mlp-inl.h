// The two products of the column-sparse MLP for one task (see column_sparse_mlp_task.h).
// First product: tokens along the lanes, rows of W1 read in place and broadcast
// (panel_kernels-inl.h). Second product: output columns along the lanes, so that rows of the
// transposed W2 are read in place as vectors, deltas are broadcast, and the output needs no
// transposition. Highway target code: include it after foreach_target.h.
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
#include "ops/cpu/panel_kernels-inl.h"
#include "ops/cpu/tail-inl.h"
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

// The rows of W1 of one register tile: pointers in f32 and biases.
struct TileRows {
  const float* rows[kTileRows];
  float bias[kTileRows];
};

// Rows indices[0 .. num_rows) + offset of W1; 16-bit rows are converted into `converted`.
HWY_INLINE void LoadTileRows(const MlpWeights& weights, const int32_t* indices, int64_t num_rows,
                             int64_t offset, float* converted, TileRows* tile) {
  const ConstTensorView& weight = weights.fc1_weight;
  const int64_t row_bytes = weight.stride(0) * static_cast<int64_t>(SizeOf(weight.dtype()));
  const int64_t depth = weight.dim(1);
  for (int64_t r = 0; r < num_rows; ++r) {
    const int64_t row = indices[r] + offset;
    const void* source = static_cast<const uint8_t*>(weight.raw()) + row * row_bytes;
    if (weight.dtype() == DType::kF32) {
      tile->rows[r] = static_cast<const float*>(source);
    } else {
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

// products [num_rows][lanes] (gated: a second half after kTileRows rows) -> cache and delta, for
// the tokens of one panel, whose first is `token`.
template <Activation kActivation>
HWY_INLINE void FinishTile(const cpu::MlpTask& task, const int32_t* indices, int64_t num_rows,
                           const TileRows* tiles, const float* products, int64_t token,
                           int64_t panel_lanes, float* delta, int64_t delta_stride) {
  const FloatTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t end = std::min(token + panel_lanes, task.cache_lanes);
  for (int64_t r = 0; r < num_rows; ++r) {
    float* cache = task.cache + indices[r] * task.cache_stride;
    const float* first = products + r * panel_lanes - token;
    const float* second = first + kTileRows * panel_lanes;
    const FloatVector first_bias = hn::Set(d, tiles[0].bias[r]);
    for (int64_t i = token; i < end; i += lanes) {
      const FloatVector x = hn::Add(hn::LoadU(d, first + i), first_bias);
      FloatVector y = x;
      if (task.weights->gated) y = hn::Add(hn::LoadU(d, second + i), hn::Set(d, tiles[1].bias[r]));
      const FloatVector value = Activate<kActivation>(*task.weights, x, y);
      if (i + lanes <= end) {
        hn::StoreU(hn::Sub(value, hn::LoadU(d, cache + i)), d, delta + r * delta_stride + i);
        hn::StoreU(value, d, cache + i);
      } else {
        const FloatVector change = hn::Sub(value, tail::LoadFirst(d, cache + i, end - i));
        tail::StoreFirst(change, d, delta + r * delta_stride + i, end - i);
        tail::StoreFirst(value, d, cache + i, end - i);
      }
    }
  }
}

// The tokens of the task, transposed into panels [model_dim][panel_lanes] one after the other.
HWY_INLINE void FillPanels(const cpu::MlpTask& task, float* panels) {
  const int64_t panel_lanes = PanelLanes();
  for (int64_t token = 0; token < task.tokens; token += panel_lanes) {
    transpose::TransposeTokens(task.input + token * task.input_stride, task.input_stride,
                               std::min(panel_lanes, task.tokens - token), panel_lanes,
                               task.model_dim, panels + token * task.model_dim, panel_lanes);
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

// Neurons indices[0 .. count) of the first product, into the cache and the delta.
HWY_INLINE void FirstProduct(const cpu::MlpTask& task, const int32_t* indices, int64_t count,
                             const float* panels, float* products, float* converted,
                             const DeltaLayout& delta) {
  const int64_t panel_lanes = PanelLanes(), depth = task.model_dim;
  const int64_t neurons = task.weights->fc1_weight.dim(0) / 2;  // of a gated MLP
  const int64_t tiles = CeilDivide(count, kTileRows);
  TileRows tile_rows[2];
  for (int64_t tile = 0, j = 0; tile < tiles; ++tile) {
    const int64_t rows = count * (tile + 1) / tiles - j;
    LoadTileRows(*task.weights, indices + j, rows, 0, converted, &tile_rows[0]);
    if (task.weights->gated) {
      LoadTileRows(*task.weights, indices + j, rows, neurons, converted + kTileRows * depth,
                   &tile_rows[1]);
    }
    for (int64_t token = 0; token < task.tokens; token += panel_lanes) {
      const float* panel = panels + token * depth;
      for (int64_t r = 0; r < rows; ++r) {
        PrefetchBytes(task.cache + indices[j + r] * task.cache_stride + token, panel_lanes * 4);
      }
      RowsTimesPanel<kPanelVectors, false>(tile_rows[0].rows, rows, panel, depth, products,
                                           nullptr);
      if (task.weights->gated) {
        RowsTimesPanel<kPanelVectors, false>(tile_rows[1].rows, rows, panel, depth,
                                             products + kTileRows * panel_lanes, nullptr);
      }
      float* tile_delta =
          delta.data + token / panel_lanes * delta.panel_stride + j * delta.row_stride - token;
      activation::WithActivation(task.weights->activation, [&](auto constant) HWY_ATTR {
        FinishTile<decltype(constant)::value>(task, indices + j, rows, tile_rows, products, token,
                                              panel_lanes, tile_delta, delta.row_stride);
      });
    }
    j += rows;
  }
}

// A register tile of the second product, kTokens tokens by the lanes of a strip of columns:
// output[t][lane] += sum over r of delta[r * delta_stride + t] * strip[r][lane].
// kMasked: only the first `columns` lanes exist in the output.
template <int kTokens, bool kMasked>
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
      const FloatVector change = hn::Set(d, delta[t]);
      TAMIAS_UNROLL
      for (int v = 0; v < kPanelVectors; ++v) sum[t][v] = hn::MulAdd(change, weight[v], sum[t][v]);
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
template <int kTokens, bool kMasked>
HWY_NOINLINE void OutputTileOf(int64_t tokens, const float* strip, int64_t num_rows,
                               int64_t columns, const float* delta, int64_t delta_stride,
                               float* output, int64_t output_stride) {
  if constexpr (kTokens > 1) {
    if (tokens < kTokens) {
      return OutputTileOf<kTokens - 1, kMasked>(tokens, strip, num_rows, columns, delta,
                                                delta_stride, output, output_stride);
    }
  }
  OutputTile<kTokens, kMasked>(strip, num_rows, columns, delta, delta_stride, output,
                               output_stride);
}

// strip[j][lane] = row indices[j] of the transposed W2, columns [column, column + panel lanes), 0
// past the last.
HWY_INLINE void PackStrip(const cpu::MlpTask& task, const int32_t* indices, int64_t count,
                          int64_t column, float* strip) {
  const FloatTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), panel_lanes = PanelLanes();
  const int64_t columns = std::min(panel_lanes, task.model_dim - column);
  const float* weight = task.weights->fc2_weight_transposed.data<float>() + column;
  for (int64_t j = 0; j < count; ++j, strip += panel_lanes) {
    const float* row = weight + indices[j] * task.model_dim;
    if (columns == panel_lanes) {
      for (int64_t i = 0; i < panel_lanes; i += lanes) {
        hn::Store(hn::LoadU(d, row + i), d, strip + i);
      }
    } else {
      for (int64_t i = 0; i < panel_lanes; ++i) strip[i] = i < columns ? row[i] : 0.0f;
    }
  }
}

// output += delta [count neurons][tokens] times rows indices[0 .. count) of the transposed W2.
HWY_INLINE void SecondProduct(const cpu::MlpTask& task, const int32_t* indices, int64_t count,
                              const DeltaLayout& delta, float* strip) {
  const int64_t panel_lanes = PanelLanes();
  for (int64_t column = 0; column < task.model_dim; column += panel_lanes) {
    PackStrip(task, indices, count, column, strip);
    const int64_t columns = task.model_dim - column;
    for (int64_t panel = 0; panel < task.tokens; panel += panel_lanes) {
      const int64_t tokens = std::min(panel_lanes, task.tokens - panel);
      const int64_t tiles = CeilDivide(tokens, kTileRows);
      for (int64_t tile = 0, t = 0; tile < tiles; ++tile) {
        const int64_t end = tokens * (tile + 1) / tiles;
        const float* tile_delta = delta.data + panel / panel_lanes * delta.panel_stride + t;
        float* output = task.output + (panel + t) * task.output_stride + column;
        if (columns >= panel_lanes) {
          OutputTileOf<kTileRows, false>(end - t, strip, count, columns, tile_delta,
                                         delta.row_stride, output, task.output_stride);
        } else {
          OutputTileOf<kTileRows, true>(end - t, strip, count, columns, tile_delta,
                                        delta.row_stride, output, task.output_stride);
        }
        t = end;
      }
    }
  }
}

}  // namespace mlp
}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#endif  // TAMIAS_OPS_CPU_COLUMN_SPARSE_MLP_INL_H_
