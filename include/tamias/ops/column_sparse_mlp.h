// Column-sparse MLP delta: on a sparse step only the neurons chosen for a group of rows (tokens)
// are computed anew, a = act(x W1[S]^T + b1[S]), and the output cache moves by (a - a_cached) W2[:,
// S]^T (Chipmunk, arXiv 2506.03275, section "MLP"). Shapes: B batch, N tokens, d model width, F
// neurons, G = ceil(N / group_size) groups of tokens.
//
// On the CPU with activations in bf16 (tamias/context.h): input, fc2_weight_transposed, cached
// activations, delta and output cache each f32 or bf16. Where all but the last are bf16, and fc1,
// they are multiplied as such where the processor does that; accumulation is fp32. A delta is taken
// between activations as the cache holds them, as on a GPU.
//
// On a GPU of compute capability 8.0 or later: input, fc1_weight, fc2_weight_transposed, cached
// activations and delta are bf16 or f16, all alike, in the layouts below; fc1_bias and the output
// cache f32, f16 or bf16; accumulation is fp32. d and group_size are multiples of 8, rows begin at
// multiples of 16 bytes. The lists of the selection are not checked there: counts beyond the
// capacity end there, indices out of range count for nothing. The delta is taken between
// activations as the cache holds them (rounded), so that deltas added up over many steps follow the
// cache. The work is enqueued.
#pragma once

#include "tamias/context.h"
#include "tamias/ops/activation.h"
#include "tamias/tensor.h"

namespace tamias {

// The neurons each group of tokens computes anew.
struct NeuronSelection {
  ConstTensorView indices;   // [B, G, capacity] i32, ascending within a group, each in [0, F)
  ConstTensorView counts;    // [B, G] i32, <= capacity; 0 allowed
  int64_t group_size = 128;  // the last group of a batch item may be shorter
};

struct MlpWeights {
  // [F, d]; gated: [2F, d], first F rows the activated half unless gate_first is false. f32, f16 or
  // bf16, or fp8_e4m3 with scales of its rows (widened in the workspace), last stride 1.
  ConstTensorView fc1_weight;
  ConstTensorView fc1_bias;               // [F] ([2F] when gated), same dtypes, or empty
  ConstTensorView fc2_weight;             // [d, F], may be a column slice (row stride > F)
  ConstTensorView fc2_weight_transposed;  // [F, d] contiguous f32; sparse steps only
  ConstTensorView fc2_bias;  // [d] or empty; full steps only: the cache already holds it
  Activation activation = Activation::kGeluTanh;
  bool gated = false;      // hidden = act(gate) * up (SwiGLU, GEGLU)
  bool gate_first = true;  // gated: which half of fc1 goes through the activation
  // Sparse steps round input and fc1_weight to fp8_e4m3, each row with a power of two for its
  // scale. A GPU of compute capability 9.0 multiplies these as such where d is a multiple of 16;
  // elsewhere the rounded numbers are multiplied as others, and rounding costs time.
  bool is_fp8 = false;
};

// delta[b, g, j, i] = a_new - cached_activations[b, g, indices[b, g, j], i], and the cache becomes
// a_new, for j < counts[b, g]. input [B, N, d] f32, any strides with last stride 1;
// cached_activations [B, G, F, group_size] and delta [B, G, capacity, group_size] f32 contiguous:
// tokens lie along the fastest axis, which the SIMD lanes hold. Lanes past the last token of a
// short group hold no meaning, in either.
void ColumnSparseMlpUp(Context& context, ConstTensorView input, const MlpWeights& weights,
                       const NeuronSelection& selection, TensorView cached_activations,
                       TensorView delta);

// output_cache[b, i, :] += sum_j delta[b, g(i), j, i] * fc2_weight_transposed[indices[b, g, j], :].
// output_cache [B, N, d] f32, any strides with last stride 1.
void ColumnSparseMlpDown(Context& context, ConstTensorView delta, const MlpWeights& weights,
                         const NeuronSelection& selection, TensorView output_cache);

// Up and Down, group by group, so that the delta never leaves the cache.
void ColumnSparseMlp(Context& context, ConstTensorView input, const MlpWeights& weights,
                     const NeuronSelection& selection, TensorView cached_activations,
                     TensorView output_cache);

// cached_activations[b, g, f, i] = activations[b, g * group_size + i, f]: the state that a full
// step leaves. activations [B, N, F] f32, last stride 1; group_size = cached_activations.dim(3).
// Lanes past the last token of a short group become 0.
void StoreActivations(Context& context, ConstTensorView activations, TensorView cached_activations);

}  // namespace tamias
