// A build without kernels for compute capability 9.0a: none of these is reached, since no stream's
// KernelFamily is kSm90a.
#include <string_view>

#include "base/check.h"
#include "ops/cuda/sm90a.h"

namespace tamias::cuda::sm90a {
namespace {

[[noreturn]] void FailOf(std::string_view operation) {
  Fail(ErrorCode::kUnsupported, "{}: this build has no kernels for sm90a", operation);
}

}  // namespace

const bool kIsBuilt = false;

void CopyVectors(Stream&, const ConstTensorView&, const TensorView&) { FailOf("copy"); }

void DenseAttention(Stream&, const AttentionInputs&, const TensorView&, const TensorView&) {
  FailOf("dense attention");
}

void DenseAttentionColumnSums(Stream&, const AttentionInputs&, const ConstTensorView&, int64_t,
                              const TensorView&, const TensorView&, const TensorView&) {
  FailOf("dense attention with column sums");
}

void ColumnSparseAttention(Stream&, const AttentionInputs&, const ColumnSelection&,
                           const SparseAttentionEpilogue&, const TensorView&, const TensorView&,
                           const ConstTensorView&) {
  FailOf("column-sparse attention");
}

bool ServesMlpUp(const MlpUpTask&, bool) { return false; }
void ColumnSparseMlpUp(Stream&, const MlpUpTask&, DType, bool) { FailOf("column-sparse MLP"); }
void ColumnSparseMlpDown(Stream&, const MlpDownTask&, DType) { FailOf("column-sparse MLP"); }

}  // namespace tamias::cuda::sm90a
