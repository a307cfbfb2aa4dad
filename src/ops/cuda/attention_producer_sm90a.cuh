// The producer of the attention kernel for compute capability 9.0a: its 128 threads bring query
// rows, and rows of K and V in order or by an index list, to where products read them. The gather
// happens in the copy: a thread copies 16 bytes of the row that the list names straight to their
// swizzled place, and an mbarrier hears when they have landed; nobody waits here but for free
// space.
#pragma once

#include <cstdint>

#include "ops/cuda/attention_traits.cuh"
#include "ops/cuda/attention_traits_sm90a.cuh"
#include "ops/cuda/prefetch.cuh"
#include "ops/cuda/primitives_sm90a.cuh"

namespace tamias::cuda::sm90a {

template <typename Traits, AttentionKeys kKeyChoice>
class AttentionProducer {
  using T = typename Traits::T;

 public:
  __device__ AttentionProducer(const AttentionArguments<T>& arguments, unsigned char* shared,
                               const AttentionBarriers<Traits>& barriers)
      : arguments_(arguments), shared_(shared), barriers_(barriers) {}

  __device__ void Run(int32_t tiles) {
    int32_t step = 0, turn = 0;
    TileWalk<Traits, kKeyChoice> walk(arguments_, tiles);
    for (; walk.Next(); ++turn) {
      const QueryTile& tile = walk.tile();
      const int32_t keys = walk.Keys();
      const int32_t* indices = IndicesOf<kKeyChoice>(arguments_, tile);
      int32_t row = RowOf(indices, 0, keys);
      MbarrierWait(barriers_.EmptyQuery(), turn % 2 ^ 1);
      CopyQuery(tile, walk.row());
      MbarrierArriveCopies(barriers_.FullQuery());
      PrefetchBase(tile, walk.row());
      const T* key = HeadOf(arguments_.key, arguments_.key_strides, tile.head, arguments_.heads);
      const T* value =
          HeadOf(arguments_.value, arguments_.value_strides, tile.head, arguments_.heads);
      for (int32_t first = 0; first < keys; first += Traits::kKeys, ++step) {
        // Indices are read one step ahead of their use: the copies depend on them.
        const int32_t next_row = RowOf(indices, first + Traits::kKeys, keys);
        const StageOf<Traits> at(step);
        unsigned char* tile_of_keys = shared_ + at.stage * Traits::kTileBytes;
        MbarrierWait(barriers_.EmptyKeys(at.stage), at.parity ^ 1);
        CopyRows(tile_of_keys, key, arguments_.key_strides.row, row);
        MbarrierArriveCopies(barriers_.FullKeys(at.stage));
        MbarrierWait(barriers_.EmptyValues(at.stage), at.parity ^ 1);
        CopyRows(tile_of_keys + Traits::kValueOffset, value, arguments_.value_strides.row, row);
        MbarrierArriveCopies(barriers_.FullValues(at.stage));
        row = next_row;
      }
    }
    CpAsyncCommit();
    CpAsyncWait<0>();  // a thread does not end before its copies
  }

 private:
  // A warp copies a quarter of a step's rows, kRowsAtOnce at a time; its lanes hold their indices.
  static constexpr int kWarpRows = Traits::kKeys / 4;
  static constexpr int kRowsAtOnce = 32 / Traits::kRowPieces;

  __device__ static int Lane() { return static_cast<int>(threadIdx.x) % 32; }
  __device__ static int Warp() { return static_cast<int>(threadIdx.x) / 32; }
  __device__ static int Piece() { return static_cast<int>(threadIdx.x) % Traits::kRowPieces; }

  // Of this lane in the step that begins at `first` of the list: the row of K, or -1 past the end.
  __device__ static int32_t RowOf(const int32_t* indices, int32_t first, int32_t keys) {
    const int32_t position = first + Warp() * kWarpRows + Lane();
    if (Lane() >= kWarpRows || position >= keys) return -1;
    return indices == nullptr ? position : __ldg(indices + position);
  }

  // No key: zeros, which weigh nothing.
  __device__ static void CopyRows(unsigned char* to, const T* from, int32_t stride, int32_t row) {
    to += Piece() / 8 * Traits::kKeyBlockBytes;
#pragma unroll
    for (int i = 0; i < kWarpRows; i += kRowsAtOnce) {
      const int within = i + Lane() / Traits::kRowPieces;
      const int32_t source = __shfl_sync(kFullWarp, row, within);
      const T* place = from + int64_t{max(source, 0)} * stride + 8 * Piece();
      CpAsync16(to + OperandOffset(Warp() * kWarpRows + within, Piece() % 8), place, source >= 0);
    }
  }

  // Rows from the tile's end on are zero.
  __device__ void CopyQuery(const QueryTile& tile, int32_t row) const {
    constexpr int kAtOnce = kWarpgroup / Traits::kRowPieces;
    const T* query =
        HeadOf(arguments_.query, arguments_.query_strides, tile.head, arguments_.heads);
    unsigned char* to = shared_ + Traits::kQueryOffset + Piece() / 8 * Traits::kQueryBlockBytes;
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x) / Traits::kRowPieces; i < Traits::kRows;
         i += kAtOnce) {
      const bool valid = row + i < tile.end_row;
      const T* place =
          query + int64_t{valid ? row + i : 0} * arguments_.query_strides.row + 8 * Piece();
      CpAsync16(to + i / 64 * Traits::kQueryBytes + OperandOffset(i % 64, Piece() % 8), place,
                valid);
    }
  }

  // What the epilogue will add to is in the L2 cache by then.
  __device__ void PrefetchBase(const QueryTile& tile, int32_t row) const {
    constexpr int kLineElements = 64, kRowLines = Traits::kHeadDim / kLineElements;
    if (arguments_.base == nullptr || tile.item < 0) return;
    const T* base = HeadOf(arguments_.base, arguments_.base_strides, tile.head, arguments_.heads);
    for (int i = static_cast<int>(threadIdx.x); i < Traits::kRows * kRowLines; i += kWarpgroup) {
      const int32_t r = row + i / kRowLines;
      if (r >= tile.end_row) break;
      const int64_t grouped_row = r - arguments_.schedule.dense_rows;
      PrefetchL2(base + grouped_row * arguments_.base_strides.row + i % kRowLines * kLineElements);
    }
  }

  const AttentionArguments<T>& arguments_;
  unsigned char* shared_;
  const AttentionBarriers<Traits>& barriers_;
};

}  // namespace tamias::cuda::sm90a
