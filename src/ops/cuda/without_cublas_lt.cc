// What a build without cublasLt.h, or without CUDA, answers (cmake/TamiasCuda.cmake).
#include "base/check.h"
#include "ops/cuda/cublas_lt.h"

namespace tamias::cuda {

class CublasLt::State {};

CublasLt::CublasLt(Device) {
  Fail(ErrorCode::kUnsupported, "cuBLASLt: this build of Tamias was made without cublasLt.h");
}

CublasLt::~CublasLt() = default;

void CublasLt::Multiply(Stream&, const LinearPlan&, const void*, const void*, const void*, void*,
                        void*) {}

}  // namespace tamias::cuda
