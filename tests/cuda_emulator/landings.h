// When the copies that arrive at mbarriers land: at once, some turns later, or only when no thread
// can go on without them; drawn for each phase, in some blocks without the last. A thread's land in
// order.
#pragma once

#include <cstdint>
#include <functional>

namespace tamias::cuda_emulator {

// ---- for the emulator's other parts -------------------------------------------------------------
void BeginLandings();  // of a block

// For a phase of an mbarrier; 0 to 2^63 - 1, in turns from now on.
int64_t DrawDelay();
// `arrive` is called, between two threads, after that delay and the thread's earlier landings.
void LandLater(unsigned thread, int64_t delay, std::function<void()> arrive);

void LandWhatIsDue();  // between two threads
bool LandSomething();  // when no thread can go on; false when nothing is in flight

}  // namespace tamias::cuda_emulator
