// Measuring a GPU's own kernels (ops/cuda/kernel_family.h) beside those of compute capability 8.0.
#pragma once

#include <cstdlib>
#include <string>

#include "ops/cuda/kernel_family.h"

namespace tamias::bench {

inline bool HasOwnKernels(const cuda::Stream& stream) {
  return cuda::KernelFamilyOf(stream) != cuda::KernelFamily::kSm80;
}

// What `body` launches are the kernels of compute capability 8.0.
template <typename Body>
void WithKernelsOf80(const Body& body) {
  const char* wanted = std::getenv("TAMIAS_KERNELS");
  const std::string before = wanted == nullptr ? "" : wanted;
  setenv("TAMIAS_KERNELS", "sm80", 1);
  body();
  setenv("TAMIAS_KERNELS", before.c_str(), 1);
}

}  // namespace tamias::bench
