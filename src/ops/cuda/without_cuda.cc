// The operations in a build without CUDA (cmake/TamiasCuda.cmake). No context of such a build is on
// a GPU, so none of these is reached; they are here for the linker.
#include "base/check.h"
#include "ops/activation.h"
#include "ops/attention.h"
#include "ops/attention_rest.h"
#include "ops/biased_attention.h"
#include "ops/block_mean.h"
#include "ops/column_sparse_attention.h"
#include "ops/column_sparse_mlp.h"
#include "ops/conv2d.h"
#include "ops/conv3d.h"
#include "ops/copy.h"
#include "ops/copy_indices.h"
#include "ops/copy_values.h"
#include "ops/dequantise.h"
#include "ops/distance.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/linear.h"
#include "ops/mask.h"
#include "ops/norm.h"
#include "ops/quantise_rows.h"
#include "ops/residual.h"
#include "ops/rotary.h"
#include "ops/top_k.h"
#include "ops/transpose.h"
#include "ops/upsample_conv2d.h"
#include "ops/upsample_conv3d.h"

namespace tamias::cuda {
namespace {

[[noreturn]] void FailWithoutCuda(const char* operation) {
  Fail(ErrorCode::kUnsupported, "{}: this build of Tamias has no CUDA", operation);
}

using In = ConstTensorView;
using Out = TensorView;

}  // namespace

void Activate(Stream&, Activation, Out) { FailWithoutCuda("activation"); }

void DenseAttention(Stream&, const AttentionInputs&, Out, Out) {
  FailWithoutCuda("dense attention");
}
void DenseAttentionColumnSums(Stream&, const AttentionInputs&, In, int64_t, Out, Out, Out) {
  FailWithoutCuda("dense attention with column sums");
}
void ColumnSparseAttention(Stream&, const AttentionInputs&, const ColumnSelection&,
                           const SparseAttentionEpilogue&, Out, Out, In) {
  FailWithoutCuda("column-sparse attention");
}
void LongestFirstOrder(Stream&, In, Out) { FailWithoutCuda("longest first order"); }
void AttentionRest(Stream&, const AttentionPartition&, Out, Out) {
  FailWithoutCuda("attention rest");
}

void BiasedAttention(Stream&, const BiasedAttentionInputs&, Out, Out) {
  FailWithoutCuda("biased attention");
}
void Embedding(Stream&, In, In, Out) { FailWithoutCuda("embedding"); }

bool MultipliesFloat8(const Stream&, const In&) { FailWithoutCuda("column-sparse MLP"); }
void ColumnSparseMlpUp(Stream&, In, const MlpWeights&, const NeuronSelection&, Out, Out,
                       const float*) {
  FailWithoutCuda("column-sparse MLP");
}
void ColumnSparseMlpDown(Stream&, In, const MlpWeights&, const NeuronSelection&, Out) {
  FailWithoutCuda("column-sparse MLP");
}
void ColumnSparseMlp(Stream&, In, const MlpWeights&, const NeuronSelection&, Out, Out, Out,
                     const float*) {
  FailWithoutCuda("column-sparse MLP");
}
void StoreActivations(Stream&, In, Out) { FailWithoutCuda("store activations"); }
void Linear(CublasLt&, Stream&, In, In, In, Out, Out, LinearOptions) { FailWithoutCuda("linear"); }
void FewRowsLinear(Stream&, In, In, In, Out, LinearOptions) { FailWithoutCuda("linear"); }
void Transpose(Stream&, In, Out) { FailWithoutCuda("transpose"); }
void Dequantise(Stream&, In, Out) { FailWithoutCuda("dequantise"); }
void QuantiseRows(Stream&, In, Out, Out) { FailWithoutCuda("quantise rows"); }

void BlockMean(Stream&, In, int64_t, Out) { FailWithoutCuda("block mean"); }
void CopyContiguous(Stream&, In, Out) { FailWithoutCuda("copy"); }
void CopyStrided(Stream&, In, Out) { FailWithoutCuda("copy"); }
void CopyValues(Stream&, std::span<const float>, Out) { FailWithoutCuda("copy values"); }
void CopyIndices(Stream&, In, In, In, Out) { FailWithoutCuda("copy indices"); }
void MeasureDistance(Stream&, In, In, Out) { FailWithoutCuda("distance"); }
void TopKMask(Stream&, In, int64_t, Out) { FailWithoutCuda("top-k"); }
void ApproximateTopKMask(Stream&, In, int64_t, int64_t, uint64_t, Out) {
  FailWithoutCuda("approximate top-k");
}

void RandomMask(Stream&, double, uint64_t, Out, int64_t) { FailWithoutCuda("random mask"); }
void MaskToIndices(Stream&, In, int64_t, Out, Out, Out) { FailWithoutCuda("mask to indices"); }
void CountMask(Stream&, In, Out) { FailWithoutCuda("count mask"); }
void OrMask(Stream&, In, int64_t, Out) { FailWithoutCuda("or mask"); }
void SetMaskRange(Stream&, Out, int64_t, int64_t, int64_t) { FailWithoutCuda("set mask range"); }

void Add(Stream&, In, In, Out) { FailWithoutCuda("add"); }
void Multiply(Stream&, In, In, Out) { FailWithoutCuda("multiply"); }
void AbsoluteDifference(Stream&, In, In, Out) { FailWithoutCuda("absolute difference"); }
void Axpy(Stream&, float, In, Out) { FailWithoutCuda("axpy"); }
void ScaleShift(Stream&, In, float, float, Out) { FailWithoutCuda("scale shift"); }
void Convert(Stream&, In, Out) { FailWithoutCuda("convert"); }

void LayerNorm(Stream&, In, In, In, float, Out) { FailWithoutCuda("layer norm"); }
void LayerNormModulate(Stream&, In, In, In, float, Out) { FailWithoutCuda("layer norm modulate"); }
void RmsNorm(Stream&, In, In, float, Out) { FailWithoutCuda("rms norm"); }
void RmsNormRotary(Stream&, std::span<const HeadRows>, float) {
  FailWithoutCuda("rms norm rotary");
}
void GroupNormStatistics(Stream&, In, int64_t, In, In, float, Out, Out, Out) {
  FailWithoutCuda("group norm");
}
void ScaleShiftChannels(Stream&, In, In, In, bool, Out) { FailWithoutCuda("scale shift channels"); }

void Conv2d(Stream&, In, In, In, const Conv2dOptions&, Out, Out) { FailWithoutCuda("conv2d"); }
void Conv3d(Stream&, In, In, In, const Conv3dOptions&, Out, Out) { FailWithoutCuda("conv3d"); }
void UpsampleConv2d(Stream&, In, In, In, Out, Out) { FailWithoutCuda("upsample conv2d"); }
void UpsampleConv3d(Stream&, In, In, In, const UpsampleConv3dOptions&, Out, Out) {
  FailWithoutCuda("upsample conv3d");
}

void ResidualNorm(Stream&, std::span<const ResidualRows>, const ResidualNormOptions&) {
  FailWithoutCuda("residual norm");
}

}  // namespace tamias::cuda
