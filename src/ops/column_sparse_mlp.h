// The operations of tamias/ops/column_sparse_mlp.h as each device computes them.
// src/ops/column_sparse_mlp.cc checks the arguments and calls these.
#pragma once

#include "tamias/ops/column_sparse_mlp.h"

namespace tamias {

namespace reference {
void ColumnSparseMlpUp(Context& context, ConstTensorView input, const MlpWeights& weights,
                       const NeuronSelection& selection, TensorView cached_activations,
                       TensorView delta);
void ColumnSparseMlpDown(Context& context, ConstTensorView delta, const MlpWeights& weights,
                         const NeuronSelection& selection, TensorView output_cache);
void ColumnSparseMlp(Context& context, ConstTensorView input, const MlpWeights& weights,
                     const NeuronSelection& selection, TensorView cached_activations,
                     TensorView output_cache);
void StoreActivations(Context& context, ConstTensorView activations, TensorView cached_activations);
}  // namespace reference

namespace cpu {
void ColumnSparseMlpUp(Context& context, ConstTensorView input, const MlpWeights& weights,
                       const NeuronSelection& selection, TensorView cached_activations,
                       TensorView delta);
void ColumnSparseMlpDown(Context& context, ConstTensorView delta, const MlpWeights& weights,
                         const NeuronSelection& selection, TensorView output_cache);
void ColumnSparseMlp(Context& context, ConstTensorView input, const MlpWeights& weights,
                     const NeuronSelection& selection, TensorView cached_activations,
                     TensorView output_cache);
void StoreActivations(Context& context, ConstTensorView activations, TensorView cached_activations);
}  // namespace cpu

namespace cuda {
class Stream;
// Whether the first product takes factors of 8 bits: this matrix, or its like in 8 bits.
bool MultipliesFloat8(const Stream& stream, const ConstTensorView& fc1_weight);
// With input_scales [B, N] input and fc1_weight are fp8_e4m3, as MultipliesFloat8 allows; else as
// cached_activations.
void ColumnSparseMlpUp(Stream& stream, ConstTensorView input, const MlpWeights& weights,
                       const NeuronSelection& selection, TensorView cached_activations,
                       TensorView delta, const float* input_scales = nullptr);
void ColumnSparseMlpDown(Stream& stream, ConstTensorView delta, const MlpWeights& weights,
                         const NeuronSelection& selection, TensorView output_cache);
// Up and Down; the delta is scratch.
void ColumnSparseMlp(Stream& stream, ConstTensorView input, const MlpWeights& weights,
                     const NeuronSelection& selection, TensorView cached_activations,
                     TensorView delta, TensorView output_cache,
                     const float* input_scales = nullptr);
// activations [B, N, F] and cached_activations bf16 or f16, alike; F a multiple of 8.
void StoreActivations(Stream& stream, ConstTensorView activations, TensorView cached_activations);
}  // namespace cuda

}  // namespace tamias
