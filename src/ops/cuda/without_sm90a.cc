// A build without kernels for compute capability 9.0a: none of these is reached, since no stream's
// KernelFamily is kSm90a.
#include "base/check.h"
#include "ops/cuda/sm90a.h"

namespace tamias::cuda::sm90a {

namespace {

[[noreturn]] void FailMlp() {
  Fail(ErrorCode::kUnsupported, "column-sparse MLP: this build has no kernels for sm90a");
}

}  // namespace

const bool kIsBuilt = false;

void CopyVectors(Stream&, const ConstTensorView&, const TensorView&) {
  Fail(ErrorCode::kUnsupported, "copy: this build has no kernels for sm90a");
}

bool ServesMlpUp(const MlpUpTask&, bool) { return false; }
void ColumnSparseMlpUp(Stream&, const MlpUpTask&, DType, bool) { FailMlp(); }
void ColumnSparseMlpDown(Stream&, const MlpDownTask&, DType) { FailMlp(); }

}  // namespace tamias::cuda::sm90a
