// The copy. Contiguous views: a copy of the driver, or the vectors of copy_sm90a.cu. Views of any
// strides: one thread per element, neighbours along the last axis. A few numbers of the host: they
// are a launch's arguments.
#include "ops/copy.h"

#include <algorithm>

#include "base/cuda/memory.h"
#include "ops/copy_values.h"
#include "ops/cuda/check_operand.h"
#include "ops/cuda/kernel_family.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/sm90a.h"

namespace tamias::cuda {
namespace {

constexpr unsigned kThreads = 256;

struct StridedCopyTask {
  const void* source;
  void* destination;
  int64_t count;
  int rank;
  int64_t dims[Shape::kMaxRank];
  int64_t source_strides[Shape::kMaxRank], destination_strides[Shape::kMaxRank];
};

// Bits: the unsigned integer as wide as an element.
template <typename Bits>
__global__ void __launch_bounds__(kThreads) CopyStridedKernel(StridedCopyTask task) {
  CheckLaunchBounds<kThreads>();
  int64_t rest = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (rest >= task.count) return;
  int64_t from = 0, to = 0;
  for (int axis = task.rank - 1; axis >= 0; --axis) {
    const int64_t index = rest % task.dims[axis];
    rest /= task.dims[axis];
    from += index * task.source_strides[axis];
    to += index * task.destination_strides[axis];
  }
  static_cast<Bits*>(task.destination)[to] = static_cast<const Bits*>(task.source)[from];
}

struct Values {
  float of[kMostValues];
};

__global__ void __launch_bounds__(kThreads)
    CopyValuesKernel(const __grid_constant__ Values values, int count, float* destination) {
  CheckLaunchBounds<kThreads>();
  for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(kThreads)) {
    destination[i] = values.of[i];
  }
}

bool IsWholeVectors(const ConstTensorView& view) {
  const auto bytes = view.NumElements() * static_cast<int64_t>(SizeOf(view.dtype()));
  return reinterpret_cast<uintptr_t>(view.raw()) % kVectorBytes == 0 && bytes % kVectorBytes == 0;
}

}  // namespace

void CopyContiguous(Stream& stream, ConstTensorView source, TensorView destination) {
  if (KernelFamilyOf(stream) == KernelFamily::kSm90a && IsWholeVectors(source) &&
      IsWholeVectors(destination)) {
    return sm90a::CopyVectors(stream, source, destination);
  }
  Copy(stream, source, destination);
}

void CopyStrided(Stream& stream, ConstTensorView source, TensorView destination) {
  StridedCopyTask task{.source = source.raw(),
                       .destination = destination.raw(),
                       .count = source.NumElements(),
                       .rank = source.rank(),
                       .dims = {},
                       .source_strides = {},
                       .destination_strides = {}};
  for (int axis = 0; axis < source.rank(); ++axis) {
    task.dims[axis] = source.dim(axis);
    task.source_strides[axis] = source.stride(axis);
    task.destination_strides[axis] = destination.stride(axis);
  }
  const LaunchShape shape{.name = "copy",
                          .grid = static_cast<unsigned>((task.count + kThreads - 1) / kThreads),
                          .block = kThreads};
  switch (SizeOf(source.dtype())) {
    case 1:
      return Launch(CopyStridedKernel<uint8_t>, shape, stream, task);
    case 2:
      return Launch(CopyStridedKernel<uint16_t>, shape, stream, task);
    case 4:
      return Launch(CopyStridedKernel<uint32_t>, shape, stream, task);
    default:
      return Launch(CopyStridedKernel<uint64_t>, shape, stream, task);
  }
}

void CopyValues(Stream& stream, std::span<const float> values, TensorView destination) {
  if (values.empty()) return;
  Values sent{};
  std::copy(values.begin(), values.end(), sent.of);
  Launch(CopyValuesKernel, {.name = "copy values", .grid = 1, .block = kThreads}, stream, sent,
         static_cast<int>(values.size()), destination.data<float>());
}

}  // namespace tamias::cuda
