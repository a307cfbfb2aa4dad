// Which kernels a GPU gets where there are several of one operation: those of any GPU since the
// A100, or those written for the H100 (files named *_sm90a.cu, compiled for compute capability 9.0
// with its own instructions only).
#pragma once

#include <cstdint>

#include "base/cuda/stream.h"

namespace tamias::cuda {

enum class KernelFamily : uint8_t { kSm80, kSm90a };

// kSm90a on compute capability 9.0 (10 * major + minor) when the build has it; otherwise kSm80.
// `wanted`, the value of $TAMIAS_KERNELS, chooses instead unless it is null or empty: "sm80" or
// "sm90a". Throws kInvalidArgument for anything else, kUnsupported for sm90a on another GPU or in
// a build without it.
KernelFamily ChooseKernelFamily(int compute_capability, bool has_sm90a, const char* wanted);

// That of the stream's GPU in this build.
KernelFamily KernelFamilyOf(const Stream& stream);

}  // namespace tamias::cuda
