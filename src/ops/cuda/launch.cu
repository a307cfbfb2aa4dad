// What a launch may ask of a GPU, and what is said when it asks for more: see the header.
#include "base/check.h"
#include "ops/cuda/launch.cuh"

#include <string>

namespace tamias::cuda {
namespace {

constexpr size_t kSharedBytesUnasked = 48 * 1024;  // of a block, static and dynamic
constexpr unsigned kMostBlocksX = 0x7FFFFFFF, kMostBlocksYZ = 65535;

std::string TextOf(const dim3& size) { return fmt::format("{} x {} x {}", size.x, size.y, size.z); }

void CheckGrid(const LaunchShape& shape) {
  if (shape.grid.x <= kMostBlocksX && shape.grid.y <= kMostBlocksYZ &&
      shape.grid.z <= kMostBlocksYZ) {
    return;
  }
  Fail(ErrorCode::kUnsupported, "{}: a grid of {} blocks, a GPU allows {}", shape.name,
       TextOf(shape.grid), TextOf(dim3(kMostBlocksX, kMostBlocksYZ, kMostBlocksYZ)));
}

cudaFuncAttributes AttributesOf(const void* kernel, const LaunchShape& shape) {
  cudaFuncAttributes attributes{};
  Check(cudaFuncGetAttributes(&attributes, kernel), shape.name);
  return attributes;
}

}  // namespace

void PrepareLaunch(const void* kernel, const LaunchShape& shape, const Stream& stream) {
  CheckGrid(shape);
  if (shape.shared_bytes == 0) return;  // the compiler allows 48 KiB of static memory alone
  const cudaFuncAttributes attributes = AttributesOf(kernel, shape);
  const size_t bytes = attributes.sharedSizeBytes + shape.shared_bytes;
  if (bytes <= kSharedBytesUnasked) return;
  const DeviceProperties& device = stream.properties();
  if (bytes > device.shared_bytes_per_block) {
    Fail(ErrorCode::kUnsupported,
         "{}: a block asks for {} bytes of shared memory ({} dynamic, {} static), {} allows {}",
         shape.name, bytes, shape.shared_bytes, attributes.sharedSizeBytes, device.name,
         device.shared_bytes_per_block);
  }
  const auto dynamic = static_cast<int>(shape.shared_bytes);
  if (attributes.maxDynamicSharedSizeBytes >= dynamic) return;
  Check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, dynamic),
        shape.name);
}

#ifndef TAMIAS_CUDA_EMULATION
cudaError_t LaunchKernel(const void* kernel, const LaunchShape& shape, void** arguments,
                         cudaStream_t stream) {
  if (shape.cluster == 1) {
    return cudaLaunchKernel(kernel, shape.grid, shape.block, arguments, shape.shared_bytes, stream);
  }
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = shape.cluster;
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = 1;
  return cudaLaunchKernelExC(&config, kernel, arguments);
}
#endif

void FailLaunch(const void* kernel, const LaunchShape& shape, cudaError_t status) {
  cudaGetLastError();  // a refused launch leaves the device usable
  const cudaFuncAttributes attributes = AttributesOf(kernel, shape);
  Fail(ErrorCode::kDevice,
       "{}: {}: {} blocks of {} threads with {} bytes of dynamic shared memory; the kernel allows "
       "{} threads and {} bytes, and has {} bytes of static and {} registers a thread",
       shape.name, cudaGetErrorString(status), TextOf(shape.grid), TextOf(shape.block),
       shape.shared_bytes, attributes.maxThreadsPerBlock, attributes.maxDynamicSharedSizeBytes,
       attributes.sharedSizeBytes, attributes.numRegs);
}

}  // namespace tamias::cuda
