// Launching a kernel with its errors checked: Launch(kernel, shape, stream, arguments...).
#pragma once

#include <array>
#include <tuple>

#include "base/cuda/error.cuh"
#include "base/cuda/runtime.cuh"
#include "base/cuda/stream.h"

namespace tamias::cuda {

struct LaunchShape {
  const char* name = "";    // of the kernel, for messages
  dim3 grid = {};           // blocks; none: nothing is launched
  dim3 block = {};          // threads
  size_t shared_bytes = 0;  // of dynamic shared memory
};

// Throws kDevice, naming the kernel, when the launch is refused; errors of the kernel itself show
// at Stream::Synchronize.
template <typename... Parameters, typename... Arguments>
void Launch(void (*kernel)(Parameters...), const LaunchShape& shape, Stream& stream,
            const Arguments&... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
#ifdef TAMIAS_CUDA_EMULATION
  static_cast<void>(stream);
  cuda_emulator::Run({shape.name, shape.grid, shape.block, shape.shared_bytes},
                     [&] { kernel(arguments...); });
#else
  const DeviceScope scope(stream.device().index);
  const void* function = reinterpret_cast<const void*>(kernel);
  if (shape.shared_bytes > 48 * 1024) {  // beyond that a kernel must ask
    Check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shape.shared_bytes)),
          shape.name);
  }
  std::tuple<std::remove_cv_t<Parameters>...> values(arguments...);
  const auto pointers = std::apply(
      [](auto&... value) { return std::array<void*, sizeof...(value)>{&value...}; }, values);
  Check(cudaLaunchKernel(function, shape.grid, shape.block, const_cast<void**>(pointers.data()),
                         shape.shared_bytes, stream.handle()),
        shape.name);
#endif
}

}  // namespace tamias::cuda
