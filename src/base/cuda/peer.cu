// Copies between GPUs, by copy engines: rows of two pitches, which kernels need not gather first.
#include "base/cuda/peer.h"

#include "base/check.h"
#include "base/cuda/error.cuh"

namespace tamias::cuda {
namespace {

// A copy as the runtime takes it, in bytes.
struct Rows {
  size_t width = 1, count = 1;
  size_t source_pitch = 0, destination_pitch = 0;
};

Rows RowsOf(const ConstTensorView& source, const ConstTensorView& destination) {
  const size_t size = SizeOf(source.dtype());
  int64_t run = 1;  // elements that lie side by side in both
  Rows rows;
  for (int axis = source.rank() - 1; axis >= 0; --axis) {
    const int64_t dim = source.dim(axis);
    if (dim == 1) continue;
    const bool is_run = source.stride(axis) == run && destination.stride(axis) == run;
    if (is_run && rows.count == 1) {
      run *= dim;
      continue;
    }
    if (rows.count > 1) {
      Fail(ErrorCode::kInvalidArgument,
           "copy between GPUs: expected rows, found strides {} and {} of shape {}",
           source.strides().ToString(), destination.strides().ToString(),
           source.shape().ToString());
    }
    rows.count = static_cast<size_t>(dim);
    rows.source_pitch = static_cast<size_t>(source.stride(axis)) * size;
    rows.destination_pitch = static_cast<size_t>(destination.stride(axis)) * size;
  }
  rows.width = static_cast<size_t>(run) * size;
  if (rows.count == 1) rows.source_pitch = rows.destination_pitch = rows.width;
  return rows;
}

void CheckViews(const Stream& stream, const ConstTensorView& source,
                const ConstTensorView& destination) {
  if (source.device().type != DeviceType::kCuda || destination.device() != stream.device()) {
    Fail(ErrorCode::kInvalidArgument,
         "copy between GPUs: expected tensors on a GPU and on GPU {}, found {} and {}",
         stream.device().index, Name(source.device()), Name(destination.device()));
  }
  if (source.shape() != destination.shape() || source.dtype() != destination.dtype()) {
    Fail(ErrorCode::kInvalidArgument, "copy between GPUs: destination: expected {} {}, found {} {}",
         Name(source.dtype()), source.shape().ToString(), Name(destination.dtype()),
         destination.shape().ToString());
  }
}

}  // namespace

void AllowPeerAccess(int device, int peer) {
  const DeviceScope scope(device);
  int can = 0;
  Check(cudaDeviceCanAccessPeer(&can, device, peer), "asking for access to another GPU's memory");
  if (can == 0) return;
  const cudaError_t status = cudaDeviceEnablePeerAccess(peer, 0);
  if (status == cudaErrorPeerAccessAlreadyEnabled) {
    cudaGetLastError();  // an answer, not an error
    return;
  }
  Check(status, fmt::format("giving GPU {} access to the memory of GPU {}", device, peer));
}

void CopyFromPeer(Stream& stream, ConstTensorView source, TensorView destination) {
  CheckViews(stream, source, destination);
  if (source.NumElements() == 0) return;
  const Rows rows = RowsOf(source, destination);
  const DeviceScope scope(stream.device().index);
  cudaMemcpy3DPeerParms copy{};
  copy.srcPtr = make_cudaPitchedPtr(const_cast<void*>(source.raw()), rows.source_pitch, rows.width,
                                    rows.count);
  copy.srcDevice = source.device().index;
  copy.dstPtr =
      make_cudaPitchedPtr(destination.raw(), rows.destination_pitch, rows.width, rows.count);
  copy.dstDevice = stream.device().index;
  copy.extent = make_cudaExtent(rows.width, rows.count, 1);
  Check(cudaMemcpy3DPeerAsync(&copy, stream.handle()), "copying a tensor from another GPU");
}

}  // namespace tamias::cuda
