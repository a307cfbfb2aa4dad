// Operands of the GPU tests: the same values on the device, in the type under test, and on the host
// in fp32, where the references work.
#pragma once

#include "tamias/error.h"
#include "tests/support/compare_tensors.h"
#include "tests/support/device_test.h"

namespace tamias {

// Both views skip the same memory between rows; rows begin at multiples of 16 bytes.
struct DeviceOperand {
  Tensor host_storage, device_storage;  // f32; the type under test
  TensorView host, device;

  // The device's storage in fp32: writes outside the view show as well.
  Tensor Result(cuda::Stream& stream) const {
    return ToFloat32(ToHost(stream, device_storage.view()));
  }
  float Error(cuda::Stream& stream) const {
    return LargestError(Result(stream).view(), host_storage.view());
  }
};

inline TensorView SameView(const TensorView& view, const Tensor& storage, const Tensor& target) {
  const auto* begin = static_cast<const std::byte*>(storage.view().raw());
  const int64_t elements = (static_cast<const std::byte*>(view.raw()) - begin) /
                           static_cast<int64_t>(SizeOf(storage.dtype()));
  const ConstTensorView whole = target.view();
  auto* data = const_cast<std::byte*>(static_cast<const std::byte*>(whole.raw())) +
               elements * static_cast<int64_t>(SizeOf(target.dtype()));
  return TensorView(data, target.dtype(), view.shape(), view.strides(), whole.device());
}

enum class Layout { kAny, kContiguous };

inline DeviceOperand MakeOperand(cuda::Stream& stream, Random& random, const Shape& shape,
                                 DType dtype, float scale = 1, float mean = 0,
                                 Layout layout = Layout::kAny) {
  Shape larger = shape, begin = shape;
  const bool strided = layout == Layout::kAny && random.Coin();
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const int64_t unit = axis == shape.rank() - 1 ? 8 : 1;
    const int64_t extra = strided ? random.Integer(0, 2) : 0;
    larger[axis] += unit * extra;
    begin[axis] = unit * random.Integer(0, extra);
  }
  if (strided) larger[shape.rank() - 1] = (larger[shape.rank() - 1] + 7) / 8 * 8;
  Tensor values = random.Normal(larger, scale);
  for (int64_t i = 0; i < values.NumElements(); ++i) values.data<float>()[i] += mean;
  if (dtype != DType::kF32) values = Rounded(values.view(), dtype);
  DeviceOperand operand{ToFloat32(values), ToDevice(stream, values.view()), {}, {}};
  operand.host = operand.host_storage.view();
  for (int axis = 0; axis < shape.rank(); ++axis) {
    operand.host = operand.host.Slice(axis, begin[axis], begin[axis] + shape[axis]);
  }
  operand.device = SameView(operand.host, operand.host_storage, operand.device_storage);
  return operand;
}

constexpr DType kFloatTypes[] = {DType::kF32, DType::kF16, DType::kBF16};
constexpr DType kHalfTypes[] = {DType::kF16, DType::kBF16};

inline DType RandomFloatType(Random& random) { return kFloatTypes[random.Integer(0, 2)]; }

// How far a result may be off by its rounding alone, as LargestError counts: half of the last bit,
// and as much for results that rounded to either side.
inline float Tolerance(DType dtype) {
  return dtype == DType::kF32 ? 1e-5f : dtype == DType::kF16 ? 1.1e-3f : 8e-3f;
}

}  // namespace tamias
