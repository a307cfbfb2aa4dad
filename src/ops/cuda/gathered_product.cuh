// What the products of the column-sparse MLP, the convolutions and the attention of encoders share:
// the main loop of C[128, 128] = A[128, K] B[K, 128] on the tensor cores (mma.sync m16n8k16, fp32
// accumulators, compute capability 8.0 and up), and the way of the accumulators out to memory in
// 16-byte vectors. Rows of A or B are gathered while they are copied to shared memory (cp.async, 16
// bytes a thread), so the products inside are dense.
#pragma once

#include "ops/cuda/check_operand.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/primitives.cuh"
#include "ops/cuda/product_schedule.cuh"
#include "ops/cuda/vector.cuh"

namespace tamias::cuda {

// The tile of one block. Two blocks fit a multiprocessor of every architecture (96 of 100 KiB of
// shared memory on 8.6 and 8.9, 2 x 128 x 255 registers): one computes while the other is in its
// prologue or epilogue.
struct ProductTile {
  static constexpr int kLines = 128;    // rows of A = columns of B = rows and columns of C
  static constexpr int kDepth = 32;     // of K per stage: two steps of the tensor cores
  static constexpr int kStages = 3;     // one in use, two under way
  static constexpr int kThreads = 128;  // warps 2 x 2, each with 64 x 64 of C
  static constexpr int kWarpLines = 64;
  static constexpr int kRowTiles = kWarpLines / 16;  // of m16n8k16 per warp
  static constexpr int kColumnTiles = kWarpLines / 8;
  static constexpr int kOperandBytes = kLines * kDepth * 2;
  static constexpr int kStageBytes = 2 * kOperandBytes;
  static constexpr int kSharedBytes = kStages * kStageBytes;     // 48 KiB
  static constexpr int kCopies = kOperandBytes / 16 / kThreads;  // vectors per thread and operand
};

// The registers of one lane for a step of 16 along K, laid out as primitives.cuh says.
struct Fragments {
  uint32_t a[ProductTile::kRowTiles][4];
  uint32_t b[ProductTile::kColumnTiles / 2][4];  // two column tiles each
};

struct Accumulators {
  float c[ProductTile::kRowTiles][ProductTile::kColumnTiles][4];
};

// An operand whose lines (rows of A, columns of B) are contiguous along K in memory: [128][32] in
// shared memory, 64 bytes a line, the four vectors of a line exchanged so that eight lines in a row
// touch all banks.
struct DepthFastest {
  // Vector `i` of the calling thread.
  static __device__ int Line(int i) { return static_cast<int>(threadIdx.x) / 4 + 32 * i; }
  static __device__ int DepthVector() { return static_cast<int>(threadIdx.x) % 4; }

  static __device__ int Offset(int line, int depth_vector) {
    return line * 64 + ((depth_vector ^ ((line / 2) % 4)) * 16);
  }

  // Fragments of A: lines first_line + 16 t, step 0 or 1 of the stage.
  static __device__ void LoadA(const unsigned char* operand, int first_line, int step,
                               Fragments& fragments) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int t = 0; t < ProductTile::kRowTiles; ++t) {
      LdMatrixX4(fragments.a[t],
                 operand + Offset(first_line + 16 * t + lane % 16, 2 * step + lane / 16));
    }
  }

  static __device__ void LoadB(const unsigned char* operand, int first_line, int step,
                               Fragments& fragments) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int line = first_line + lane / 16 * 8 + lane % 8;
#pragma unroll
    for (int t = 0; t < ProductTile::kColumnTiles / 2; ++t) {
      LdMatrixX4(fragments.b[t], operand + Offset(line + 16 * t, 2 * step + lane / 8 % 2));
    }
  }
};

// An operand that is contiguous along its lines, one row per index of K: [32][128] in shared
// memory, 256 bytes a row, vectors exchanged likewise. ldmatrix transposes.
struct LineFastest {
  static __device__ int Depth(int i) { return static_cast<int>(threadIdx.x) / 16 + 8 * i; }
  static __device__ int LineVector() { return static_cast<int>(threadIdx.x) % 16; }

  static __device__ int Offset(int depth, int line_vector) {
    return depth * 256 + ((line_vector ^ (depth % 8)) * 16);
  }

  static __device__ void LoadA(const unsigned char* operand, int first_line, int step,
                               Fragments& fragments) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int depth = 16 * step + lane / 16 * 8 + lane % 8;
#pragma unroll
    for (int t = 0; t < ProductTile::kRowTiles; ++t) {
      LdMatrixX4Transposed(fragments.a[t],
                           operand + Offset(depth, first_line / 8 + 2 * t + lane / 8 % 2));
    }
  }

  static __device__ void LoadB(const unsigned char* operand, int first_line, int step,
                               Fragments& fragments) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int depth = 16 * step + lane % 16;
#pragma unroll
    for (int t = 0; t < ProductTile::kColumnTiles / 2; ++t) {
      LdMatrixX4Transposed(fragments.b[t],
                           operand + Offset(depth, first_line / 8 + 2 * t + lane / 16));
    }
  }
};

// The lines of C that the calling warp computes.
struct WarpPlace {
  int first_row = static_cast<int>(threadIdx.x) / 32 % 2 * ProductTile::kWarpLines;
  int first_column = static_cast<int>(threadIdx.x) / 64 * ProductTile::kWarpLines;
};

template <typename Half>
__device__ void MultiplyStage(const Fragments& fragments, Accumulators& accumulators) {
#pragma unroll
  for (int row = 0; row < ProductTile::kRowTiles; ++row) {
#pragma unroll
    for (int column = 0; column < ProductTile::kColumnTiles; ++column) {
      const uint32_t* b = fragments.b[column / 2] + column % 2 * 2;
      Mma16816<Half>(accumulators.c[row][column], fragments.a[row], b[0], b[1]);
    }
  }
}

// accumulators = A B. OperandA and OperandB are loaders: `Layout` is one of the two above, and
// Copy(operand, k) begins to copy K's range [k, k + 32) to shared memory, zeros where there is
// nothing; it is called for k = 0, 32, 64, ... in turn. On return shared memory is free.
template <typename Half, typename OperandA, typename OperandB>
__device__ void MultiplyGathered(OperandA& a, OperandB& b, int depth, unsigned char* shared,
                                 Accumulators& accumulators) {
  using Tile = ProductTile;
  accumulators = {};
  const WarpPlace place;
  const int stages = (depth + Tile::kDepth - 1) / Tile::kDepth;
  const auto copy = [&](int stage) {
    unsigned char* target = shared + stage % Tile::kStages * Tile::kStageBytes;
    if (stage < stages) {
      a.Copy(target, stage * Tile::kDepth);
      b.Copy(target + Tile::kOperandBytes, stage * Tile::kDepth);
    }
    CpAsyncCommit();  // past the end, too: the number of groups under way stays the same
  };
  for (int stage = 0; stage < Tile::kStages - 1; ++stage) copy(stage);
  for (int stage = 0; stage < stages; ++stage) {
    CpAsyncWait<Tile::kStages - 2>();
    __syncthreads();  // this stage has arrived for all, and all are done with the one before
    copy(stage + Tile::kStages - 1);
    const unsigned char* operands = shared + stage % Tile::kStages * Tile::kStageBytes;
#pragma unroll
    for (int step = 0; step < Tile::kDepth / 16; ++step) {
      Fragments fragments;
      OperandA::Layout::LoadA(operands, place.first_row, step, fragments);
      OperandB::Layout::LoadB(operands + Tile::kOperandBytes, place.first_column, step, fragments);
      MultiplyStage<Half>(fragments, accumulators);
    }
  }
  CpAsyncWait<0>();
  __syncthreads();
}

// The way out. The accumulators of a warp go through its own corner of shared memory, 16 rows at a
// time, and come back as eight consecutive columns per lane. The pitch of 72 floats keeps the
// lanes' pairs on different banks.
struct WarpStrip {
  static constexpr int kRows = 16;
  static constexpr int kPitch = ProductTile::kWarpLines + 8;
  static constexpr int kFloats = kRows * kPitch;
  static constexpr int kVectors = kRows * ProductTile::kWarpLines / kVector / 32;  // per lane

  // The corner of the calling warp, for `strips` strips.
  static __device__ float* Of(unsigned char* shared, int strips) {
    return reinterpret_cast<float*>(shared) + threadIdx.x / 32 * strips * kFloats;
  }

  static __device__ void Store(const float (&c)[ProductTile::kColumnTiles][4], float* strip) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int tile = 0; tile < ProductTile::kColumnTiles; ++tile) {
      float* target = strip + lane / 4 * kPitch + tile * 8 + lane % 4 * 2;
      *reinterpret_cast<float2*>(target) = {c[tile][0], c[tile][1]};
      *reinterpret_cast<float2*>(target + 8 * kPitch) = {c[tile][2], c[tile][3]};
    }
  }

  // Row and column (of the strip) of vector `i` of the calling lane.
  static __device__ int Row(int i) { return (static_cast<int>(threadIdx.x) % 32 + 32 * i) / 8; }
  static __device__ int Column() { return static_cast<int>(threadIdx.x) % 8 * kVector; }
  static __device__ Floats8 Load(const float* strip, int i) {
    return Load8(strip, DType::kF32, Row(i) * kPitch + Column());
  }
};

// The column of the tile that the calling thread's vectors begin with.
__device__ inline int VectorColumn() { return WarpPlace().first_column + WarpStrip::Column(); }

// write(row, v) for every row of the tile of which the calling thread holds v, the eight columns
// from VectorColumn() on. `shared` is free, as MultiplyGathered leaves it.
template <typename Write>
__device__ void ForEachVector(const Accumulators& accumulators, unsigned char* shared,
                              const Write& write) {
  const WarpPlace place;
  float* strip = WarpStrip::Of(shared, 1);
#pragma unroll
  for (int t = 0; t < ProductTile::kRowTiles; ++t) {
    WarpStrip::Store(accumulators.c[t], strip);
    __syncwarp();
#pragma unroll 1
    for (int i = 0; i < WarpStrip::kVectors; ++i) {
      write(place.first_row + 16 * t + WarpStrip::Row(i), WarpStrip::Load(strip, i));
    }
    __syncwarp();
  }
}

inline LaunchShape ProductLaunch(const char* name, const ProductSchedule& schedule) {
  CheckRange(name, "tiles", schedule.blocks(), 0, INT32_MAX);
  return {.name = name,
          .grid = static_cast<unsigned>(schedule.blocks()),
          .block = ProductTile::kThreads,
          .shared_bytes = ProductTile::kSharedBytes};
}

}  // namespace tamias::cuda
