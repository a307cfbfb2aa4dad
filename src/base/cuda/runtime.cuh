// The CUDA runtime, or what stands in for it: under TAMIAS_CUDA_EMULATION (a test build) the
// emulator in tests/cuda_emulator serves the same names on the CPU and no CUDA header is needed.
// Nothing else in src/ includes the runtime.
#pragma once

#ifdef TAMIAS_CUDA_EMULATION
#include "tests/cuda_emulator/emulator.h"
#else
#include <cuda_runtime.h>
#endif
