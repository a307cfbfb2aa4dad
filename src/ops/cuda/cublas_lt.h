// cuBLASLt, loaded at run time: machines without it run everything but the dense layers. One object
// serves a device for as long as its DeviceResources live: it owns the library's handle and the
// algorithms chosen so far. Several threads may use it at once, each with its own stream and
// scratch.
#pragma once

#include <memory>

#include "base/cuda/stream.h"
#include "ops/cuda/linear_plan.h"
#include "tamias/device_resources.h"

namespace tamias::cuda {

class CublasLt final : public DeviceResource {
 public:
  // What a product may use of scratch memory, in bytes: what NVIDIA advises for the H100.
  static constexpr size_t kScratchBytes = size_t{32} << 20;

  // Loads libcublasLt.so.<major of the toolkit> from where the loader looks, or the file that
  // $TAMIAS_CUBLASLT names. Throws kUnsupported, saying what was looked for, when it is missing.
  explicit CublasLt(Device device);
  ~CublasLt() override;
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  // Enqueues output = fused(input weight^T + bias), or output += input weight^T + bias. The first
  // call of a plan asks the library for an algorithm. scratch: kScratchBytes on the device.
  void Multiply(Stream& stream, const LinearPlan& plan, const void* input, const void* weight,
                const void* bias, void* output, void* scratch);

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace tamias::cuda
