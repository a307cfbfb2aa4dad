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
  unsigned cluster = 1;     // blocks along x that run together; compute capability 9.0 and later
};

// Before a launch on the stream's device, which is the current one: lets the kernel have its
// dynamic shared memory beside its static. More than 48 KiB of both together must be asked for.
// Throws kUnsupported, naming the kernel, what it asks for and what is allowed, when a block asks
// for more shared memory or the grid has more blocks than the device allows.
void PrepareLaunch(const void* kernel, const LaunchShape& shape, const Stream& stream);

#ifndef TAMIAS_CUDA_EMULATION
cudaError_t LaunchKernel(const void* kernel, const LaunchShape& shape, void** arguments,
                         cudaStream_t stream);
#endif

// Throws kDevice: why the launch was refused, what it asked for and what the kernel allows.
[[noreturn]] void FailLaunch(const void* kernel, const LaunchShape& shape, cudaError_t status);

// Throws as PrepareLaunch, and kDevice, naming the kernel, when the launch is refused all the same;
// errors of the kernel itself show at Stream::Synchronize.
template <typename... Parameters, typename... Arguments>
void Launch(void (*kernel)(Parameters...), const LaunchShape& shape, Stream& stream,
            const Arguments&... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  const DeviceScope scope(stream.device().index);
  const void* function = reinterpret_cast<const void*>(kernel);
  PrepareLaunch(function, shape, stream);
#ifdef TAMIAS_CUDA_EMULATION
  cuda_emulator::CheckArguments(stream.handle(), shape.name,
                                static_cast<std::remove_cv_t<Parameters>>(arguments)...);
  cuda_emulator::Enqueue(stream.handle(), shape.name,
                         [=, values = std::tuple<std::remove_cv_t<Parameters>...>(arguments...)] {
                           cuda_emulator::Run({shape.name, function, shape.grid, shape.block,
                                               shape.shared_bytes, shape.cluster},
                                              [&] { std::apply(kernel, values); });
                         });
#else
  std::tuple<std::remove_cv_t<Parameters>...> values(arguments...);
  const auto pointers = std::apply(
      [](auto&... value) { return std::array<void*, sizeof...(value)>{&value...}; }, values);
  const cudaError_t status =
      LaunchKernel(function, shape, const_cast<void**>(pointers.data()), stream.handle());
  if (status != cudaSuccess) FailLaunch(function, shape, status);
#endif
}

}  // namespace tamias::cuda
