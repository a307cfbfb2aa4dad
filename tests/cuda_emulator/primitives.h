// The device functions of src/ops/cuda/primitives.cuh on the CPU, with the operand layouts of the
// PTX manual (ldmatrix .m8n8, mma.m16n8k16).
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "tamias/dtype.h"
#include "tests/cuda_emulator/async_copies.h"
#include "tests/cuda_emulator/emulator.h"

namespace tamias::cuda {

inline void CpAsync16(void* shared, const void* global, bool valid = true) {
  cuda_emulator::AsyncCopy(shared, global, valid ? 16 : 0);
}
inline void CpAsyncCommit() { cuda_emulator::AsyncCommit(); }
template <int kGroupsLeft>
void CpAsyncWait() {
  cuda_emulator::AsyncWait(kGroupsLeft);
}

inline uint32_t PackBits(uint16_t low, uint16_t high) { return low | uint32_t{high} << 16; }

template <typename T>
T FromFloat(float value) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return ToBFloat16(value);
  } else {
    return ToFloat16(value);
  }
}

template <typename T>
uint32_t PackPair(float low, float high) {
  return PackBits(FromFloat<T>(low).bits, FromFloat<T>(high).bits);
}

template <typename T>
float2 UnpackPair(uint32_t pair) {
  return {ToFloat(T{static_cast<uint16_t>(pair)}), ToFloat(T{static_cast<uint16_t>(pair >> 16)})};
}

inline float Exp2(float x) { return std::exp2(x); }
inline float Log2(float x) { return std::log2(x); }

namespace emulated {

struct MatrixLoad {
  const void* row;
  std::array<uint32_t, 4> registers;
};

// The eight rows of one matrix are read in one pass when they lie in different banks.
inline void CountConflicts(const cuda_emulator::Frames& frames, size_t matrix) {
  std::array<int, 8> rows_in_bank{};
  int passes = 1;
  for (size_t row = 0; row < 8; ++row) {
    const auto* frame = static_cast<const MatrixLoad*>(frames[8 * matrix + row]);
    const size_t bank = reinterpret_cast<uintptr_t>(frame->row) / 16 % 8;
    passes = std::max(passes, ++rows_in_bank[bank]);
  }
  cuda_emulator::LastLaunch().matrix_load_conflicts += passes - 1;
}

inline uint16_t MatrixElement(const cuda_emulator::Frames& frames, size_t matrix, size_t row,
                              size_t column) {
  const auto* frame = static_cast<const MatrixLoad*>(frames[8 * matrix + row]);
  uint16_t value;
  std::memcpy(&value, static_cast<const std::byte*>(frame->row) + 2 * column, 2);
  return value;
}

template <bool kTransposed>
void LoadMatrices(const cuda_emulator::Frames& frames) {
  ++cuda_emulator::LastLaunch().matrix_loads;
  for (size_t matrix = 0; matrix < 4; ++matrix) {
    CountConflicts(frames, matrix);
    for (size_t lane = 0; lane < 32; ++lane) {
      const size_t i = lane / 4, j = lane % 4 * 2;
      static_cast<MatrixLoad*>(frames[lane])->registers[matrix] =
          kTransposed ? PackBits(MatrixElement(frames, matrix, j, i),
                                 MatrixElement(frames, matrix, j + 1, i))
                      : PackBits(MatrixElement(frames, matrix, i, j),
                                 MatrixElement(frames, matrix, i, j + 1));
    }
  }
}

struct Product {
  float* accumulator;
  const uint32_t* a;
  std::array<uint32_t, 2> b;
};

template <typename T>
void Multiply(const cuda_emulator::Frames& frames) {
  ++cuda_emulator::LastLaunch().products;
  float a[16][16], b[16][8];
  for (size_t lane = 0; lane < 32; ++lane) {
    const auto* frame = static_cast<const Product*>(frames[lane]);
    const size_t group = lane / 4, column = lane % 4 * 2;
    for (size_t r = 0; r < 4; ++r) {
      const float2 pair = UnpackPair<T>(frame->a[r]);
      a[group + r % 2 * 8][column + r / 2 * 8] = pair.x;
      a[group + r % 2 * 8][column + r / 2 * 8 + 1] = pair.y;
    }
    for (size_t r = 0; r < 2; ++r) {
      const float2 pair = UnpackPair<T>(frame->b[r]);
      b[column + r * 8][group] = pair.x;
      b[column + r * 8 + 1][group] = pair.y;
    }
  }
  float sum[16][8] = {};
  for (size_t i = 0; i < 16; ++i) {
    for (size_t k = 0; k < 16; ++k) {
      for (size_t j = 0; j < 8; ++j) sum[i][j] += a[i][k] * b[k][j];
    }
  }
  for (size_t lane = 0; lane < 32; ++lane) {
    float* to = static_cast<const Product*>(frames[lane])->accumulator;
    for (size_t r = 0; r < 4; ++r) to[r] += sum[lane / 4 + r / 2 * 8][lane % 4 * 2 + r % 2];
  }
}

template <bool kTransposed>
void LdMatrix(uint32_t (&registers)[4], const void* row) {
  cuda_emulator::CheckAligned("ldmatrix", row, 16);
  MatrixLoad frame{row, {}};
  cuda_emulator::Collect("ldmatrix", 0xFFFFFFFFu, &frame, &LoadMatrices<kTransposed>);
  for (size_t i = 0; i < 4; ++i) registers[i] = frame.registers[i];
}

}  // namespace emulated

inline void LdMatrixX4(uint32_t (&registers)[4], const void* row) {
  emulated::LdMatrix<false>(registers, row);
}
inline void LdMatrixX4Transposed(uint32_t (&registers)[4], const void* row) {
  emulated::LdMatrix<true>(registers, row);
}

template <typename T>
void Mma16816(float (&accumulator)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emulated::Product frame{accumulator, a, {b0, b1}};
  cuda_emulator::Collect("mma", 0xFFFFFFFFu, &frame, &emulated::Multiply<T>);
}

}  // namespace tamias::cuda
