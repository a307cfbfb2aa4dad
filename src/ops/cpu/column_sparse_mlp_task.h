// What one thread computes of a column-sparse MLP at a time: some tokens of one group, all chosen
// neurons. Plain data, shared by the dispatcher and the code compiled for each instruction set.
#pragma once

#include <cstdint>

#include "ops/column_sparse_mlp.h"
#include "ops/cpu/bfloat16.h"
#include "ops/cpu/elements.h"

namespace tamias::cpu {

struct MlpTask {
  const MlpWeights* weights = nullptr;
  const int32_t* indices = nullptr;  // the chosen neurons
  int64_t count = 0;
  int64_t tokens = 0;
  int64_t model_dim = 0;

  // Of pairs and tiles: input, W1, cache and W2 are bf16, and model_dim and input_stride are even,
  // for tiles model_dim a multiple of theirs; else products are of floats, whatever the types are.
  Multiplier multiplier = Multiplier::kFloats;

  ConstElements input = {};  // [tokens, model_dim], or no data
  int64_t input_stride = 0;
  Elements cache = {};  // [F, cache_stride]: activations, at the first token of the task
  int64_t cache_stride = 0;
  int64_t cache_lanes = 0;  // tokens that a row of the cache has room for
  float* output = nullptr;  // [tokens, model_dim], or null
  int64_t output_stride = 0;

  Elements delta = {};  // [count, delta_stride]; no data: in scratch, block by block
  int64_t delta_stride = 0;
  float* scratch = nullptr;  // MlpScratch::Size() floats, vector-aligned
};

// Neurons between which the delta is handed from the first product to the second: 128 rows of 128
// tokens are 64 KiB, and a strip of 32 columns of as many rows of W2 is 16 KiB, half of L1.
constexpr int64_t kNeuronBlock = 160;

// Floats in a thread's scratch, part by part, for tasks of up to `tokens` tokens.
struct MlpScratch {
  int64_t padded_tokens;  // a multiple of the lanes of a panel
  int64_t panel;          // the tokens, transposed
  int64_t delta;
  int64_t products;  // one register tile of the first product (two when gated)
  int64_t strip;     // a strip of columns of kNeuronBlock rows of the transposed W2
  int64_t rows;      // as many rows of W1, converted to f32 (0 when they are f32)

  MlpScratch(const MlpWeights& weights, int64_t tokens, int64_t panel_lanes, int64_t tile_rows) {
    const int64_t model_dim = weights.fc1_weight.dim(1), halves = weights.gated ? 2 : 1;
    padded_tokens = (tokens + panel_lanes - 1) / panel_lanes * panel_lanes;
    panel = padded_tokens * model_dim;
    delta = padded_tokens * kNeuronBlock;
    products = halves * tile_rows * panel_lanes;
    strip = kNeuronBlock * panel_lanes;
    rows = weights.fc1_weight.dtype() == DType::kF32
               ? 0
               : (halves * tile_rows * model_dim + 15) / 16 * 16;
  }
  int64_t Size() const { return panel + delta + products + strip + rows; }
};

}  // namespace tamias::cpu
