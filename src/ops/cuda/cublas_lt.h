// cuBLASLt, loaded at run time: machines without it run everything but the dense layers. One object
// belongs to one Context, as its stream does: it owns the library's handle, its scratch memory and
// the algorithms chosen so far.
#pragma once

#include <memory>

#include "base/cuda/stream.h"
#include "ops/cuda/linear_plan.h"

namespace tamias::cuda {

class CublasLt {
 public:
  // Loads libcublasLt.so.<major of the toolkit> from where the loader looks, or the file that
  // $TAMIAS_CUBLASLT names. Throws kUnsupported, saying what was looked for, when it is missing.
  explicit CublasLt(int device = 0);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  // Enqueues output = fused(input weight^T + bias), or output += input weight^T + bias. The first
  // call of a plan asks the library for an algorithm.
  void Multiply(Stream& stream, const LinearPlan& plan, const void* input, const void* weight,
                const void* bias, void* output);

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace tamias::cuda
