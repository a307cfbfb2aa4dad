// Tensors: an owning, contiguous `Tensor` and the non-owning, possibly strided views
// `ConstTensorView` and `TensorView` that every operation takes. Strides are in elements.
// Views are cheap values; they do not keep the memory alive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "tamias/device.h"
#include "tamias/dtype.h"
#include "tamias/shape.h"

namespace tamias {

class ConstTensorView {
 public:
  ConstTensorView() = default;  // empty: no data, rank 0, stands for "not given"
  ConstTensorView(const void* data, DType dtype, Shape shape, Device device = {});
  ConstTensorView(const void* data, DType dtype, Shape shape, Shape strides, Device device = {});

  bool empty() const { return data_ == nullptr; }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  const Shape& shape() const { return shape_; }
  const Shape& strides() const { return strides_; }
  int rank() const { return shape_.rank(); }
  int64_t dim(int axis) const { return shape_[axis < 0 ? axis + rank() : axis]; }
  int64_t stride(int axis) const { return strides_[axis < 0 ? axis + rank() : axis]; }
  int64_t NumElements() const { return shape_.NumElements(); }
  bool IsContiguous() const;
  // Of matrices of 8-bit floats: what the elements of each row are multiplied with, in the same
  // memory; null: nothing.
  const float* row_scales() const { return row_scales_; }
  // The same elements, the matrix's rows multiplied with `scales`, f32, one for each.
  ConstTensorView WithRowScales(const float* scales) const;

  const void* raw() const { return data_; }
  // The first element; throws kInternal when T is not the dtype.
  template <typename T>
  const T* data() const {
    if (dtype_ != DTypeOf<T>::value) RefuseAccess(DTypeOf<T>::value);
    return static_cast<const T*>(data_);
  }

  // As data, for who reads or writes it: throws kInternal for memory of a GPU, too.
  template <typename T>
  const T* host_data() const {
    if (device_.type != DeviceType::kCpu) RefuseAccess(DTypeOf<T>::value);
    return data<T>();
  }

  // Elements [begin, end) along an axis.
  ConstTensorView Slice(int axis, int64_t begin, int64_t end) const;
  // One index along an axis, which disappears.
  ConstTensorView Select(int axis, int64_t index) const;
  // Axes in a new order: Permute({0, 2, 1, 3}).
  ConstTensorView Permute(Shape axes) const;
  // The same elements under another shape; only for contiguous views.
  ConstTensorView Reshape(Shape shape) const;
  // Splits one axis of size a * b into two, [a, b]; works on strided views.
  ConstTensorView SplitAxis(int axis, int64_t a, int64_t b) const;

 protected:
  // Throws kInternal: as elements of a type that it has not, or of a GPU on the host.
  [[noreturn]] void RefuseAccess(DType asked) const;

  const void* data_ = nullptr;
  DType dtype_ = DType::kF32;
  Device device_;
  const float* row_scales_ = nullptr;
  Shape shape_;
  Shape strides_;
};

class TensorView : public ConstTensorView {
 public:
  TensorView() = default;
  // A contiguous view that tells its shape and has no memory, `offset` bytes into it: what plans
  // are made with. No process has memory at its address, so that reading or writing it ends at
  // once.
  static TensorView WithoutMemory(Shape shape, DType dtype, Device device, size_t offset = 0);
  TensorView(void* data, DType dtype, Shape shape, Device device = {})
      : ConstTensorView(data, dtype, shape, device) {}
  TensorView(void* data, DType dtype, Shape shape, Shape strides, Device device = {})
      : ConstTensorView(data, dtype, shape, strides, device) {}

  void* raw() const { return const_cast<void*>(data_); }
  template <typename T>
  T* data() const {
    return const_cast<T*>(ConstTensorView::data<T>());
  }
  template <typename T>
  T* host_data() const {
    return const_cast<T*>(ConstTensorView::host_data<T>());
  }

  TensorView Slice(int axis, int64_t begin, int64_t end) const {
    return TensorView(ConstTensorView::Slice(axis, begin, end));
  }
  TensorView Select(int axis, int64_t index) const {
    return TensorView(ConstTensorView::Select(axis, index));
  }
  TensorView Permute(Shape axes) const { return TensorView(ConstTensorView::Permute(axes)); }
  TensorView Reshape(Shape shape) const { return TensorView(ConstTensorView::Reshape(shape)); }
  TensorView SplitAxis(int axis, int64_t a, int64_t b) const {
    return TensorView(ConstTensorView::SplitAxis(axis, a, b));
  }

 private:
  explicit TensorView(const ConstTensorView& view) : ConstTensorView(view) {}
};

// Owns 64-byte aligned memory. Move-only. Throws kOutOfMemory.
class Tensor {
 public:
  Tensor() = default;
  Tensor(Shape shape, DType dtype);  // uninitialised
  // In memory that was made elsewhere (on a device, perhaps), 64-byte aligned and large enough.
  Tensor(std::shared_ptr<std::byte> memory, Shape shape, DType dtype, Device device = {});
  Tensor(Tensor&&) noexcept = default;
  Tensor& operator=(Tensor&&) noexcept = default;
  static Tensor Zeros(Shape shape, DType dtype);
  static Tensor CopyOf(ConstTensorView source);  // contiguous copy on the host, same dtype
  // As TensorView::WithoutMemory.
  static Tensor WithoutMemory(Shape shape, DType dtype, Device device);

  TensorView view() { return view_; }
  ConstTensorView view() const { return view_; }
  operator TensorView() { return view_; }             // NOLINT: a tensor is used as its view
  operator ConstTensorView() { return view_; }        // NOLINT
  operator ConstTensorView() const { return view_; }  // NOLINT
  bool empty() const { return view_.empty(); }
  const Shape& shape() const { return view_.shape(); }
  DType dtype() const { return view_.dtype(); }
  int64_t dim(int axis) const { return view_.dim(axis); }
  int64_t NumElements() const { return view_.NumElements(); }
  size_t bytes() const { return static_cast<size_t>(NumElements()) * SizeOf(dtype()); }
  template <typename T>
  T* data() {
    return view_.data<T>();
  }
  template <typename T>
  const T* data() const {
    return static_cast<const ConstTensorView&>(view_).data<T>();
  }
  template <typename T>
  T* host_data() {
    return view_.host_data<T>();
  }
  template <typename T>
  const T* host_data() const {
    return static_cast<const ConstTensorView&>(view_).host_data<T>();
  }

 private:
  std::shared_ptr<std::byte> memory_;  // shared with its maker at most
  TensorView view_;
};

// Element-wise copy between views of the host of one shape and one dtype, any strides. Between any
// two views on a context's device: the operation Copy (tamias/ops/copy.h).
void CopyOnHost(ConstTensorView source, TensorView destination);

}  // namespace tamias
