// The device functions of src/ops/cuda/clusters_sm90a.cuh on the CPU.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tests/cuda_emulator/block.h"
#include "tests/cuda_emulator/mbarriers.h"

namespace tamias::cuda {

// What the driver's tensor map says, of 16-bit elements: dimensions from the fastest on.
struct TensorMap {
  const std::byte* data;
  int64_t sizes[3];
  int64_t strides[3];  // in bytes
  int box_rows;
};

using cuda_emulator::ClusterRank;
using cuda_emulator::MbarrierArriveAt;
inline void ClusterSync() { cuda_emulator::ClusterBarrier(); }

// 64 columns from `column` on of box_rows rows, 128 bytes each, in the order of the 128-byte
// swizzle, to this place of every block of the cluster; zeros outside the tensor.
void CopyBoxToCluster(void* shared, const TensorMap& map, uint64_t* barrier, int column, int row,
                      int batch);

}  // namespace tamias::cuda
