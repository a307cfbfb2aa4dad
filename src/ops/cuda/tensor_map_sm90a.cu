// TensorMap of a tensor: by the driver, whose function the runtime finds; plain numbers on the
// emulator.
#include "base/check.h"
#include "base/cuda/error.cuh"
#include "ops/cuda/clusters_sm90a.cuh"

namespace tamias::cuda {
namespace {

// Of axes that have one element, whose strides may be anything.
TensorOfRows WithWholeStrides(TensorOfRows tensor) {
  constexpr int64_t kElements = 8;  // strides are multiples of 16 bytes
  if (tensor.rows == 1)
    tensor.row_stride = (tensor.columns + kElements - 1) / kElements * kElements;
  if (tensor.batch == 1) tensor.batch_stride = tensor.rows * tensor.row_stride;
  return tensor;
}

}  // namespace

#ifdef TAMIAS_CUDA_EMULATION
TensorMap MapTensor(const char*, const TensorOfRows& tensor) {
  const TensorOfRows whole = WithWholeStrides(tensor);
  return {.data = static_cast<const std::byte*>(whole.data),
          .sizes = {whole.columns, whole.rows, whole.batch},
          .strides = {2, 2 * whole.row_stride, 2 * whole.batch_stride},
          .box_rows = whole.box_rows};
}
#else
namespace {

// Null when the driver has none.
decltype(&cuTensorMapEncodeTiled) EncodeFunction() {
  constexpr const char* kName = "cuTensorMapEncodeTiled";
  void* function = nullptr;
  cudaDriverEntryPointQueryResult result;
#if CUDART_VERSION >= 12050
  constexpr unsigned kSince = 12000;
  Check(cudaGetDriverEntryPointByVersion(kName, &function, kSince, cudaEnableDefault, &result),
        kName);
#else
  Check(cudaGetDriverEntryPoint(kName, &function, cudaEnableDefault, &result), kName);
#endif
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
}

}  // namespace

TensorMap MapTensor(const char* operation, const TensorOfRows& tensor) {
  const auto encode = EncodeFunction();
  const TensorOfRows whole = WithWholeStrides(tensor);
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(whole.columns),
                              static_cast<cuuint64_t>(whole.rows),
                              static_cast<cuuint64_t>(whole.batch)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(2 * whole.row_stride),
                                static_cast<cuuint64_t>(2 * whole.batch_stride)};
  const cuuint32_t box[] = {64, static_cast<cuuint32_t>(whole.box_rows), 1};
  const cuuint32_t steps[] = {1, 1, 1};
  TensorMap map;
  const CUresult status =
      encode == nullptr
          ? CUDA_ERROR_NOT_FOUND
          : encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<void*>(whole.data), sizes,
                   strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                   CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) {
    Fail(ErrorCode::kDevice, "{}: cuTensorMapEncodeTiled: error {} for {} x {} x {} elements",
         operation, static_cast<int>(status), whole.batch, whole.rows, whole.columns);
  }
  return map;
}
#endif

}  // namespace tamias::cuda
