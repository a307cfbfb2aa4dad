// mbarriers on the emulator: phases, expected arrivals, bytes still to come. What lies in the
// kernel's 8 bytes is a mark that shows when they are overwritten.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tamias::cuda_emulator {

// ---- called by threads of a kernel --------------------------------------------------------------
// Each throws when the barrier was not initialised, not fenced since (FenceMbarrierInit), or
// overwritten; arrivals when the phase has had all of its own.
void MbarrierInit(uint64_t* barrier, uint32_t arrivals);
void FenceMbarrierInit();  // of those that this thread initialised
void MbarrierArrive(uint64_t* barrier);
void MbarrierArriveExpect(uint64_t* barrier, uint32_t bytes);
// Arrives for the thread's copies in flight, which land when the phase is complete.
void MbarrierArriveCopies(uint64_t* barrier);
// Throws when the phase is not the one that the thread can mean: the first of this parity behind
// the last one that it waited for.
void MbarrierWait(uint64_t* barrier, uint32_t parity);
void CopyBulk(void* shared, const void* global, uint32_t bytes, uint64_t* barrier);
// At the barrier in the same place of another block's shared memory.
void MbarrierArriveAt(uint64_t* barrier, unsigned rank);

// ---- for the emulator's other parts -------------------------------------------------------------
void BeginMbarriers();  // of a block
void EndMbarriers();    // throws when a phase has had some of its arrivals

// 16 bytes in shared memory that a copy brings with the barrier's phase; from null: zeros.
struct BulkPiece {
  void* to;
  const void* from;
};
void StartPieces(const char* operation, const std::vector<BulkPiece>& pieces, uint64_t* barrier);
// The same place in the shared memory of block `rank` of the cluster. Throws when there is no such
// block, or it has ended.
void* SamePlaceIn(unsigned rank, const void* shared);

}  // namespace tamias::cuda_emulator
