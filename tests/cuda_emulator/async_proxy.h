// What wgmma may see of shared memory. It reads through another proxy than ordinary accesses: a
// fence.proxy.async must come between a write and the product that reads it, of the thread that
// wrote, or of those that multiply, once they know of the write. The emulator follows dynamic
// shared memory, in pieces of 16 bytes: who wrote last, and when. It sees the writes of cp.async,
// of CopyBulk (which needs no fence) and of StoreOperand; a product that meets others is refused.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tamias::cuda_emulator {

// ---- called by threads of a kernel --------------------------------------------------------------
void FenceAsyncProxy();
void StoreOperand(void* shared, const void* word, size_t bytes);

// ---- for the emulator's other parts -------------------------------------------------------------
void BeginAsyncProxy();  // of a block

// Both do nothing for addresses outside dynamic shared memory.
void NoteCopyStarted(const void* shared, size_t bytes);
void NoteWritten(const void* shared, size_t bytes, unsigned thread);
void NoteWrittenByAsyncProxy(const void* shared, size_t bytes);

// Throws unless the threads [first, first + 32) may multiply what the 16 bytes at an offset of
// dynamic shared memory hold.
void CheckReadable(const char* operation, size_t offset, unsigned first_thread);

}  // namespace tamias::cuda_emulator
