// Copies of boxes of a tensor to the blocks of a cluster: see the header.
#include "tests/cuda_emulator/clusters.h"

#include <vector>

#include "base/check.h"

namespace tamias::cuda {

void CopyBoxToCluster(void* shared, const TensorMap& map, uint64_t* barrier, int column, int row,
                      int batch) {
  constexpr const char* kName = "cp.async.bulk.tensor";
  constexpr int kPieces = 8, kPieceColumns = 8;
  cuda_emulator::CheckAligned("cp.async.bulk.tensor to shared memory", shared, 1024);
  for (unsigned rank = 0; rank < cuda_emulator::CurrentKernel().cluster; ++rank) {
    std::vector<cuda_emulator::BulkPiece> pieces;
    auto* box = static_cast<std::byte*>(cuda_emulator::SamePlaceIn(rank, shared));
    for (int r = 0; r < map.box_rows; ++r) {
      for (int piece = 0; piece < kPieces; ++piece) {
        const int64_t at[3] = {column + piece * kPieceColumns, row + r, batch};
        bool is_inside = true;
        for (int axis = 0; axis < 3; ++axis) {
          is_inside = is_inside && at[axis] >= 0 && at[axis] < map.sizes[axis];
        }
        const std::byte* from =
            is_inside ? map.data + at[0] * 2 + at[1] * map.strides[1] + at[2] * map.strides[2]
                      : nullptr;
        pieces.push_back({box + r * 128 + (piece ^ r % 8) * 16, from});
      }
    }
    cuda_emulator::StartPieces(kName, pieces,
                               static_cast<uint64_t*>(cuda_emulator::SamePlaceIn(rank, barrier)));
  }
}

}  // namespace tamias::cuda
