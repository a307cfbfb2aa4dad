// The kernels that only a GPU of compute capability 9.0 runs, behind KernelFamily::kSm90a. A build
// whose TAMIAS_CUDA_ARCHITECTURES lack 90a has without_sm90a.cc in their place.
#pragma once

#include "base/cuda/stream.h"
#include "ops/attention.h"
#include "ops/column_sparse_attention.h"
#include "tamias/tensor.h"

namespace tamias::cuda {
struct MlpUpTask;
struct MlpDownTask;
}  // namespace tamias::cuda

namespace tamias::cuda::sm90a {

extern const bool kIsBuilt;

// cuda::CopyContiguous (ops/copy.h) where both views begin at multiples of 16 bytes and take a
// multiple of 16 bytes.
void CopyVectors(Stream& stream, const ConstTensorView& source, const TensorView& destination);

// The functions of the same names in cuda:: where TakesWarpgroups (attention_arguments.cuh) says so
// and there are queries; column sums also need keys.
void DenseAttention(Stream& stream, const AttentionInputs& inputs, const TensorView& output,
                    const TensorView& log_sum_exp);
void DenseAttentionColumnSums(Stream& stream, const AttentionInputs& inputs,
                              const ConstTensorView& previous_log_sum_exp, int64_t group_size,
                              const TensorView& output, const TensorView& log_sum_exp,
                              const TensorView& column_sums);
void ColumnSparseAttention(Stream& stream, const AttentionInputs& inputs,
                           const ColumnSelection& selection,
                           const SparseAttentionEpilogue& epilogue, const TensorView& output,
                           const TensorView& log_sum_exp, const ConstTensorView& order);

// The column-sparse MLP's products (ops/column_sparse_mlp.h) in `dtype`, bf16 or f16. Of a task's
// schedule they take the units.
bool ServesMlpUp(const MlpUpTask& task, bool gated);
void ColumnSparseMlpUp(Stream& stream, const MlpUpTask& task, DType dtype, bool gated);
void ColumnSparseMlpDown(Stream& stream, const MlpDownTask& task, DType dtype);

}  // namespace tamias::cuda::sm90a
