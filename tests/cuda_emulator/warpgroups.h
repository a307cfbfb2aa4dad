// wgmma and setmaxnreg on the emulator. A product is started by each warp for its own 16 rows, and
// done at a time drawn at random between there and the wait, when it reads shared memory as it is
// then; until the wait its sums are NaN for the kernel.
#pragma once

#include <array>
#include <cstdint>

#include "tamias/dtype.h"

namespace tamias::cuda_emulator {

// A wgmma.mma_async.m64nN, k16 of f16 or bf16, k32 of e4m3; `across`: the rows of the operand run
// along the contraction.
struct WarpgroupProduct {
  DType type = DType::kBF16;
  int columns = 0;  // N
  bool a_in_registers = false, a_across = false, b_across = false;
  bool accumulate = false;
  uint64_t a = 0, b = 0;  // descriptors

  bool operator==(const WarpgroupProduct&) const = default;
};

// ---- called by threads of a kernel --------------------------------------------------------------
// Bits 0 to 17 of an address in shared memory. Throws for memory that is not dynamic shared memory.
uint32_t SharedAddress(const void* shared);

// `a`: the lane's four pairs, or null; `d`: its columns / 2 sums, which must be there until the
// wait. Throws when operands are misaligned, outside shared memory or not there yet
// (async_proxy.h), when the lanes of a warp or the warps of a warpgroup differ, and without
// WgmmaFence where registers were free to change.
void StartProduct(const WarpgroupProduct& product, const uint32_t* a, float* d);
void WgmmaFence();
void WgmmaCommit();
void WgmmaWait(int groups_left);

// setmaxnreg: waits until the multiprocessor has as many registers left.
void SetRegisters(int registers, bool increases);

// ---- for the emulator's other parts -------------------------------------------------------------
void BeginWarpgroups();    // of a block
void MultiplyWhatIsDue();  // between two threads
// Throws when a product was not waited for, or the warps of a warpgroup did not do the same.
void EndWarpgroups();

}  // namespace tamias::cuda_emulator
