// The device functions of src/ops/cuda/primitives_sm90a.cuh on the CPU.
#pragma once

#include <cstdint>

#include "tamias/dtype.h"
#include "tests/cuda_emulator/async_proxy.h"
#include "tests/cuda_emulator/block.h"
#include "tests/cuda_emulator/mbarriers.h"
#include "tests/cuda_emulator/warpgroups.h"

namespace tamias::cuda {

using cuda_emulator::CopyBulk;
using cuda_emulator::FenceAsyncProxy;
using cuda_emulator::FenceMbarrierInit;
using cuda_emulator::MbarrierArrive;
using cuda_emulator::MbarrierArriveCopies;
using cuda_emulator::MbarrierArriveExpect;
using cuda_emulator::MbarrierInit;
using cuda_emulator::MbarrierWait;
using cuda_emulator::SharedAddress;
using cuda_emulator::WgmmaCommit;
using cuda_emulator::WgmmaFence;

template <typename Word>
void StoreOperand(void* shared, const Word& word) {
  cuda_emulator::StoreOperand(shared, &word, sizeof(Word));
}

inline void NamedBarrierSync(uint32_t id, uint32_t threads) {
  cuda_emulator::NamedBarrier(static_cast<int>(id), static_cast<int>(threads), true);
}
inline void NamedBarrierArrive(uint32_t id, uint32_t threads) {
  cuda_emulator::NamedBarrier(static_cast<int>(id), static_cast<int>(threads), false);
}

template <int kRegisters>
void RegistersUp() {
  cuda_emulator::SetRegisters(kRegisters, true);
}
template <int kRegisters>
void RegistersDown() {
  cuda_emulator::SetRegisters(kRegisters, false);
}

template <int kGroupsLeft>
void WgmmaWait() {
  cuda_emulator::WgmmaWait(kGroupsLeft);
}

template <typename T, int kColumns, OperandLayout kLayoutA, OperandLayout kLayoutB>
void WgmmaFromShared(float (&d)[kColumns / 2], uint64_t a, uint64_t b, bool accumulate) {
  static_assert(kColumns == 64 || kColumns == 128 || kColumns == 256);
  cuda_emulator::StartProduct({.type = DTypeOf<T>::value,
                               .columns = kColumns,
                               .a_across = kLayoutA == OperandLayout::kAcrossDepth,
                               .b_across = kLayoutB == OperandLayout::kAcrossDepth,
                               .accumulate = accumulate,
                               .a = a,
                               .b = b},
                              nullptr, d);
}

template <typename T, int kColumns, OperandLayout kLayoutB>
void WgmmaFromRegisters(float (&d)[kColumns / 2], const uint32_t (&a)[4], uint64_t b,
                        bool accumulate) {
  static_assert(kColumns == 64 || kColumns == 128 || kColumns == 256);
  cuda_emulator::StartProduct({.type = DTypeOf<T>::value,
                               .columns = kColumns,
                               .a_in_registers = true,
                               .b_across = kLayoutB == OperandLayout::kAcrossDepth,
                               .accumulate = accumulate,
                               .b = b},
                              a, d);
}

}  // namespace tamias::cuda
