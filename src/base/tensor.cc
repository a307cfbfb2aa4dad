// Views are made by changing offset, shape and strides (in elements); copies of strided ones go
// axis by axis and row by row where the last axis is contiguous on both sides.
#include "tamias/tensor.h"

#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "base/machine.h"

namespace tamias {
namespace {

constexpr size_t kAlignment = 64;  // one cache line, one AVX-512 vector

void CopyRecursive(const std::byte* source, std::byte* destination, const ConstTensorView& from,
                   const ConstTensorView& to, int axis) {
  const int64_t size = static_cast<int64_t>(SizeOf(from.dtype()));
  if (axis == from.rank()) {
    std::memcpy(destination, source, static_cast<size_t>(size));
    return;
  }
  const bool last = axis == from.rank() - 1;
  if (last && from.stride(axis) == 1 && to.stride(axis) == 1) {
    std::memcpy(destination, source, static_cast<size_t>(from.dim(axis) * size));
    return;
  }
  for (int64_t i = 0; i < from.dim(axis); ++i) {
    CopyRecursive(source + i * from.stride(axis) * size, destination + i * to.stride(axis) * size,
                  from, to, axis + 1);
  }
}

}  // namespace

ConstTensorView::ConstTensorView(const void* data, DType dtype, Shape shape, Device device)
    : ConstTensorView(data, dtype, shape, shape.ContiguousStrides(), device) {}

ConstTensorView::ConstTensorView(const void* data, DType dtype, Shape shape, Shape strides,
                                 Device device)
    : data_(data), dtype_(dtype), device_(device), shape_(shape), strides_(strides) {
  TAMIAS_CHECK(shape.rank() == strides.rank());
}

void ConstTensorView::RefuseAccess(DType asked) const {
  Fail(ErrorCode::kInternal, "internal error: a {} tensor in memory of {} read as {} on the host",
       Name(dtype_), Name(device_), Name(asked));
}

bool ConstTensorView::IsContiguous() const {
  int64_t expected = 1;
  for (int axis = rank() - 1; axis >= 0; --axis) {
    if (dim(axis) != 1 && stride(axis) != expected) return false;
    expected *= dim(axis);
  }
  return true;
}

ConstTensorView ConstTensorView::WithRowScales(const float* scales) const {
  TAMIAS_CHECK(rank() == 2 && dtype_ == DType::kF8E4M3);
  ConstTensorView result = *this;
  result.row_scales_ = scales;
  return result;
}

ConstTensorView ConstTensorView::Slice(int axis, int64_t begin, int64_t end) const {
  if (axis < 0) axis += rank();
  TAMIAS_CHECK(axis >= 0 && axis < rank());
  TAMIAS_CHECK(0 <= begin && begin <= end && end <= dim(axis));
  ConstTensorView result = *this;
  result.shape_[axis] = end - begin;
  result.data_ = static_cast<const std::byte*>(data_) +
                 begin * stride(axis) * static_cast<int64_t>(SizeOf(dtype_));
  if (row_scales_ != nullptr && axis == 0) result.row_scales_ += begin;
  return result;
}

ConstTensorView ConstTensorView::Select(int axis, int64_t index) const {
  if (axis < 0) axis += rank();
  TAMIAS_CHECK(row_scales_ == nullptr);
  ConstTensorView result = Slice(axis, index, index + 1);
  Shape shape;
  Shape strides;
  for (int i = 0; i < rank(); ++i) {
    if (i == axis) continue;
    shape.Append(dim(i));
    strides.Append(stride(i));
  }
  result.shape_ = shape;
  result.strides_ = strides;
  return result;
}

ConstTensorView ConstTensorView::Permute(Shape axes) const {
  TAMIAS_CHECK(axes.rank() == rank() && row_scales_ == nullptr);
  ConstTensorView result = *this;
  unsigned seen = 0;
  for (int i = 0; i < rank(); ++i) {
    const int axis = static_cast<int>(axes[i]);
    TAMIAS_CHECK(axis >= 0 && axis < rank() && (seen & (1u << axis)) == 0);
    seen |= 1u << axis;
    result.shape_[i] = dim(axis);
    result.strides_[i] = stride(axis);
  }
  return result;
}

ConstTensorView ConstTensorView::Reshape(Shape shape) const {
  TAMIAS_CHECK(IsContiguous() && shape.NumElements() == NumElements() && row_scales_ == nullptr);
  return ConstTensorView(data_, dtype_, shape, device_);
}

ConstTensorView ConstTensorView::SplitAxis(int axis, int64_t a, int64_t b) const {
  if (axis < 0) axis += rank();
  TAMIAS_CHECK(dim(axis) == a * b && row_scales_ == nullptr);
  ConstTensorView result = *this;
  result.shape_ = {};
  result.strides_ = {};
  for (int i = 0; i < rank(); ++i) {
    if (i == axis) {
      result.shape_.Append(a);
      result.strides_.Append(stride(i) * b);
    }
    result.shape_.Append(i == axis ? b : dim(i));
    result.strides_.Append(stride(i));
  }
  return result;
}

Tensor::Tensor(Shape shape, DType dtype) {
  const auto count = static_cast<size_t>(shape.NumElements());
  size_t bytes = 0;
  if (__builtin_mul_overflow(count, SizeOf(dtype), &bytes) || bytes > SIZE_MAX / 2) {
    Fail(ErrorCode::kOutOfMemory, "a tensor of shape {} is too large", shape.ToString());
  }
  const size_t rounded = (std::max<size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, rounded)), &std::free);
  if (memory_ == nullptr) {
    Fail(ErrorCode::kOutOfMemory, "cannot allocate {} bytes for a tensor of shape {} ({})", bytes,
         shape.ToString(), TightestMemoryLimit());
  }
  view_ = TensorView(memory_.get(), dtype, shape);
}

Tensor::Tensor(std::shared_ptr<std::byte> memory, Shape shape, DType dtype, Device device)
    : memory_(std::move(memory)), view_(memory_.get(), dtype, shape, device) {}

TensorView TensorView::WithoutMemory(Shape shape, DType dtype, Device device, size_t offset) {
  constexpr uintptr_t kNoMemory = uintptr_t{1} << 62;
  return TensorView(reinterpret_cast<std::byte*>(kNoMemory + offset), dtype, shape, device);
}

Tensor Tensor::WithoutMemory(Shape shape, DType dtype, Device device) {
  Tensor tensor;
  tensor.view_ = TensorView::WithoutMemory(shape, dtype, device);
  return tensor;
}

Tensor Tensor::Zeros(Shape shape, DType dtype) {
  Tensor tensor(shape, dtype);
  std::memset(tensor.view_.raw(), 0, tensor.bytes());
  return tensor;
}

Tensor Tensor::CopyOf(ConstTensorView source) {
  Tensor tensor(source.shape(), source.dtype());
  CopyOnHost(source, tensor);
  return tensor;
}

void CopyOnHost(ConstTensorView source, TensorView destination) {
  TAMIAS_CHECK(source.device() == Device{} && destination.device() == Device{});
  TAMIAS_CHECK(source.shape() == destination.shape() && source.dtype() == destination.dtype());
  if (source.NumElements() == 0) return;
  CopyRecursive(static_cast<const std::byte*>(source.raw()),
                static_cast<std::byte*>(destination.raw()), source, destination, 0);
}

}  // namespace tamias
