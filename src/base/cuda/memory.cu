// Memory of a GPU: see the header.
#include "base/cuda/memory.h"

#include <algorithm>

#include "base/check.h"
#include "base/cuda/error.cuh"

namespace tamias::cuda {
namespace {

size_t BytesOf(const ConstTensorView& view) {
  return static_cast<size_t>(view.NumElements()) * SizeOf(view.dtype());
}

size_t BytesOf(const Shape& shape, DType dtype) {
  size_t bytes = 0;
  const auto count = static_cast<size_t>(shape.NumElements());
  if (__builtin_mul_overflow(count, SizeOf(dtype), &bytes) || bytes > SIZE_MAX / 2) {
    Fail(ErrorCode::kOutOfMemory, "a tensor of shape {} is too large", shape.ToString());
  }
  return std::max<size_t>(bytes, 1);
}

void CheckPlace(const Stream& stream, std::string_view argument, const ConstTensorView& view) {
  if (view.device().type == DeviceType::kCuda && view.device() != stream.device()) {
    Fail(ErrorCode::kInvalidArgument, "copy: {}: expected a tensor on GPU {}, found one on GPU {}",
         argument, stream.device().index, view.device().index);
  }
  if (view.NumElements() > 0 && !view.IsContiguous()) {
    Fail(ErrorCode::kInvalidArgument, "copy: {}: expected a contiguous tensor, found strides {}",
         argument, view.strides().ToString());
  }
}

}  // namespace

Tensor DeviceTensor(const Shape& shape, DType dtype, int device) {
  const DeviceScope scope(device);
  const size_t bytes = BytesOf(shape, dtype);
  void* memory = nullptr;
  Check(cudaMalloc(&memory, bytes), fmt::format("allocating {} bytes on GPU {}", bytes, device));
  std::shared_ptr<std::byte> owner(static_cast<std::byte*>(memory),
                                   [](std::byte* p) { static_cast<void>(cudaFree(p)); });
  return Tensor(std::move(owner), shape, dtype, {DeviceType::kCuda, device});
}

Tensor PinnedTensor(const Shape& shape, DType dtype, int device) {
  const DeviceScope scope(device);
  const size_t bytes = BytesOf(shape, dtype);
  void* memory = nullptr;
  Check(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault),
        fmt::format("allocating {} bytes of pinned memory", bytes));
  std::shared_ptr<std::byte> owner(static_cast<std::byte*>(memory),
                                   [](std::byte* p) { static_cast<void>(cudaFreeHost(p)); });
  return Tensor(std::move(owner), shape, dtype);
}

void Copy(Stream& stream, ConstTensorView source, TensorView destination) {
  CheckPlace(stream, "source", source);
  CheckPlace(stream, "destination", destination);
  if (source.shape() != destination.shape() || source.dtype() != destination.dtype()) {
    Fail(ErrorCode::kInvalidArgument, "copy: destination: expected {} {}, found {} {}",
         Name(source.dtype()), source.shape().ToString(), Name(destination.dtype()),
         destination.shape().ToString());
  }
  if (source.NumElements() == 0) return;
  const DeviceScope scope(stream.device().index);
  Check(cudaMemcpyAsync(destination.raw(), source.raw(), BytesOf(source), cudaMemcpyDefault,
                        stream.handle()),
        "copying a tensor");
}

void Zero(Stream& stream, TensorView destination) {
  CheckPlace(stream, "destination", destination);
  if (destination.NumElements() == 0) return;
  const DeviceScope scope(stream.device().index);
  Check(cudaMemsetAsync(destination.raw(), 0, BytesOf(destination), stream.handle()),
        "zeroing a tensor");
}

}  // namespace tamias::cuda
