// DLPack's unversioned struct, read and written field by field.
#include "tamias/dlpack.h"

#include <dlpack/dlpack.h>

#include <array>
#include <cstdint>
#include <optional>

#include "base/check.h"

namespace tamias {
namespace {

struct TypePair {
  DType ours;
  uint8_t code;
  uint8_t bits;
};
constexpr std::array<TypePair, 6> kTypes = {{{DType::kF32, kDLFloat, 32},
                                             {DType::kF16, kDLFloat, 16},
                                             {DType::kBF16, kDLBfloat, 16},
                                             {DType::kI32, kDLInt, 32},
                                             {DType::kI64, kDLInt, 64},
                                             {DType::kU8, kDLUInt, 8}}};

DType TypeOf(const DLDataType& type) {
  for (const TypePair& pair : kTypes) {
    if (pair.code == type.code && pair.bits == type.bits && type.lanes == 1) return pair.ours;
  }
  Fail(ErrorCode::kUnsupported,
       "DLPack tensor: dtype: expected f32, f16, bf16, i32, i64 or u8, found code {}, {} bits, {} "
       "lanes",
       type.code, type.bits, type.lanes);
}

Device DeviceOf(const DLDevice& device) {
  switch (device.device_type) {
    case kDLCPU:
    case kDLCUDAHost:
    case kDLCUDAManaged:
      return {};
    case kDLCUDA:
      if (device.device_id >= 0) return {DeviceType::kCuda, device.device_id};
      break;
    default:
      break;
  }
  Fail(ErrorCode::kUnsupported,
       "DLPack tensor: device: expected the host or a CUDA GPU, found device type {}, number {}",
       static_cast<int>(device.device_type), device.device_id);
}

Shape ShapeOf(const DLTensor& tensor) {
  if (tensor.ndim < 0 || tensor.ndim > Shape::kMaxRank) {
    Fail(tensor.ndim < 0 ? ErrorCode::kInvalidArgument : ErrorCode::kUnsupported,
         "DLPack tensor: ndim: expected 0 to {} axes, found {}", Shape::kMaxRank, tensor.ndim);
  }
  if (tensor.ndim > 0 && tensor.shape == nullptr) {
    Fail(ErrorCode::kInvalidArgument, "DLPack tensor: shape: expected {} numbers, found none",
         tensor.ndim);
  }
  Shape shape;
  for (int axis = 0; axis < tensor.ndim; ++axis) {
    if (tensor.shape[axis] < 0) {
      Fail(ErrorCode::kInvalidArgument, "DLPack tensor: shape[{}]: expected 0 or more, found {}",
           axis, tensor.shape[axis]);
    }
    shape.Append(tensor.shape[axis]);
  }
  (void)shape.NumElements();  // throws where the product does not fit
  return shape;
}

TensorView ViewOf(const DLManagedTensor* managed) {
  if (managed == nullptr) {
    Fail(ErrorCode::kInvalidArgument, "DLPack tensor: expected a tensor, found null");
  }
  const DLTensor& tensor = managed->dl_tensor;
  const DType dtype = TypeOf(tensor.dtype);
  const Device device = DeviceOf(tensor.device);
  const Shape shape = ShapeOf(tensor);
  Shape strides = shape.ContiguousStrides();
  for (int axis = 0; tensor.strides != nullptr && axis < tensor.ndim; ++axis) {
    strides[axis] = tensor.strides[axis];
  }
  const bool has_elements = shape.NumElements() > 0;
  if (has_elements && tensor.data == nullptr) {
    Fail(ErrorCode::kInvalidArgument, "DLPack tensor: data: expected memory for {}, found null",
         shape.ToString());
  }
  auto* begin = static_cast<std::byte*>(tensor.data);
  if (begin != nullptr) begin += tensor.byte_offset;
  if (reinterpret_cast<uintptr_t>(begin) % SizeOf(dtype) != 0) {
    Fail(ErrorCode::kInvalidArgument,
         "DLPack tensor: data and byte_offset: expected an address that is a multiple of {} for "
         "{}",
         SizeOf(dtype), Name(dtype));
  }
  return {begin, dtype, shape, strides, device};
}

// What an exported struct points to.
struct Exported {
  DLManagedTensor managed = {};
  Tensor tensor;
  Shape shape;
  Shape strides;
};

}  // namespace

void ImportedTensor::GiveBack::operator()(DLManagedTensor* managed) const {
  if (managed->deleter != nullptr) managed->deleter(managed);
}

ImportedTensor::ImportedTensor(DLManagedTensor* managed) : view_(ViewOf(managed)) {
  managed_.reset(managed);
}

DLManagedTensor* ExportDLPack(Tensor tensor) {
  if (tensor.empty()) {
    Fail(ErrorCode::kInvalidArgument,
         "DLPack export: tensor: expected a tensor, found an empty one");
  }
  auto exported = std::make_unique<Exported>();
  exported->tensor = std::move(tensor);
  const TensorView view = exported->tensor.view();
  exported->shape = view.shape();
  exported->strides = view.strides();
  DLTensor& out = exported->managed.dl_tensor;
  out.data = view.raw();
  out.device = view.device().type == DeviceType::kCpu ? DLDevice{kDLCPU, 0}
                                                      : DLDevice{kDLCUDA, view.device().index};
  out.ndim = view.rank();
  for (const TypePair& pair : kTypes) {
    if (pair.ours == view.dtype()) out.dtype = {pair.code, pair.bits, 1};
  }
  out.shape = view.rank() > 0 ? &exported->shape[0] : nullptr;
  out.strides = view.rank() > 0 ? &exported->strides[0] : nullptr;
  exported->managed.manager_ctx = exported.get();
  exported->managed.deleter = [](DLManagedTensor* managed) {
    delete static_cast<Exported*>(managed->manager_ctx);
  };
  return &exported.release()->managed;
}

}  // namespace tamias
