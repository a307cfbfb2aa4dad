// What kernels of compute capability 9.0a need of clusters: blocks that run together, each of which
// reaches the others' shared memory. LaunchShape::cluster says how many; here two.
//   ClusterRank()                   of the calling block in its cluster
//   ClusterSync()                   waits for all threads of all blocks of the cluster; also orders
//                                   what they initialised, and is to be the last that they do
//   MbarrierArriveAt(barrier, rank) one arrival at the barrier in this place of block `rank`
//   CopyBoxToCluster(shared, map, barrier, column, row, batch)
//                                   by one thread: a box of a tensor to this place of both blocks,
//                                   as operands of products lie (OperandOffset); its bytes count at
//                                   the barrier in this place of each. Zeros outside the tensor
// A TensorMap describes a tensor [batch][rows][columns] of 16-bit elements whose boxes are 64
// columns wide; kernels take it as a __grid_constant__ parameter.
#pragma once

#include <cstdint>

#include "ops/cuda/primitives_sm90a.cuh"

#ifdef TAMIAS_CUDA_EMULATION
#include "tests/cuda_emulator/clusters.h"
#else
#include <cuda.h>

namespace tamias::cuda {

using TensorMap = CUtensorMap;

__device__ __forceinline__ unsigned ClusterRank() {
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;\n" : "=r"(rank));
  return rank;
}
__device__ __forceinline__ void ClusterSync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n" ::
                   : "memory");
}
__device__ __forceinline__ void MbarrierArriveAt(uint64_t* barrier, unsigned rank) {
  asm volatile(
      "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there];\n}\n" ::"r"(
          SharedAddress(barrier)),
      "r"(rank)
      : "memory");
}
__device__ __forceinline__ void CopyBoxToCluster(void* shared, const TensorMap& map,
                                                 uint64_t* barrier, int column, int row,
                                                 int batch) {
  constexpr uint16_t kBothBlocks = 3;
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%3, %4, %5}], [%2], %6;\n" ::"r"(SharedAddress(shared)),
      "l"(&map), "r"(SharedAddress(barrier)), "r"(column), "r"(row), "r"(batch), "h"(kBothBlocks)
      : "memory");
}

}  // namespace tamias::cuda

#endif

namespace tamias::cuda {

struct TensorOfRows {
  const void* data;  // 16-bit elements
  int64_t columns, rows, batch;
  int64_t row_stride, batch_stride;  // in elements
  int box_rows;                      // at most 256
};

// Throws kDevice, naming the operation, when the driver refuses.
TensorMap MapTensor(const char* operation, const TensorOfRows& tensor);

}  // namespace tamias::cuda
