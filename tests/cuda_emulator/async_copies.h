// cp.async on the emulator: what a thread has started to copy, until it lands.
#pragma once

#include <memory>
#include <vector>

namespace tamias::cuda_emulator {

// ---- called by threads of a kernel --------------------------------------------------------------
// cp.async: the 16 bytes of the destination are unreadable (NaN) from here on, and hold the data
// only after this thread has waited for the group or an mbarrier for the copy. `bytes` are copied,
// the rest is zero.
void AsyncCopy(void* shared, const void* global, int bytes);
void AsyncCommit();
void AsyncWait(int groups_left);  // until at most so many groups of this thread are in flight

// ---- for the emulator's other parts -------------------------------------------------------------
void BeginCopies();  // of a block

// Copies of one thread that land together.
struct CopyBatch {
  struct Copy {
    void* to;
    const void* from;
    int bytes;
  };
  std::vector<Copy> copies = {};
  unsigned thread = 0;
  bool has_landed = false;
};
void Land(CopyBatch& batch);

// All of the running thread that have not landed; those it starts later are in another batch.
std::vector<std::shared_ptr<CopyBatch>> CopiesInFlight();

}  // namespace tamias::cuda_emulator
