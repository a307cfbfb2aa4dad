// The copy of contiguous memory on compute capability 9.0: a thread moves vectors of 16 bytes, four
// in flight, past the first-level cache, whose lines nobody reads again.
#include "ops/cuda/launch.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/sm90a.h"

namespace tamias::cuda::sm90a {
namespace {

constexpr unsigned kThreads = 256;
constexpr int kVectors = 4;  // of a thread

__global__ void __launch_bounds__(kThreads)
    CopyVectorsKernel(const uint4* source, uint4* destination, int64_t count) {
  CheckLaunchBounds<kThreads>();
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads * kVectors + threadIdx.x;
  uint4 vectors[kVectors];
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int64_t place = first + i * static_cast<int64_t>(kThreads);
    if (place < count) vectors[i] = __ldcs(source + place);
  }
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int64_t place = first + i * static_cast<int64_t>(kThreads);
    if (place < count) __stcs(destination + place, vectors[i]);
  }
}

}  // namespace

const bool kIsBuilt = true;

void CopyVectors(Stream& stream, const ConstTensorView& source, const TensorView& destination) {
  const int64_t count = source.NumElements() * static_cast<int64_t>(SizeOf(source.dtype())) / 16;
  constexpr int64_t kPerBlock = int64_t{kThreads} * kVectors;
  const LaunchShape shape{.name = "copy, sm90a",
                          .grid = static_cast<unsigned>((count + kPerBlock - 1) / kPerBlock),
                          .block = kThreads};
  Launch(CopyVectorsKernel, shape, stream, static_cast<const uint4*>(source.raw()),
         static_cast<uint4*>(destination.raw()), count);
}

}  // namespace tamias::cuda::sm90a
