// Work on a GPU that must come out the same in any order that its queues allow.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>

#ifdef TAMIAS_CUDA_EMULATION
#include "tests/cuda_emulator/streams.h"
#endif

namespace tamias {

// body() as work is enqueued and, on the emulator, in so many other orders.
template <typename Body>
void InAnyOrder([[maybe_unused]] uint64_t orders, const Body& body) {
  body();
#ifdef TAMIAS_CUDA_EMULATION
  for (uint64_t seed = 0; seed < orders; ++seed) {
    SCOPED_TRACE(seed);
    const cuda_emulator::ShuffledStreams shuffled(seed);
    body();
  }
#endif
}

}  // namespace tamias
