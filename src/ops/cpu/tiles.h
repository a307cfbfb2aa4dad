// The tiles of AMX (Intel's manual, volume 1, chapter 18): eight registers, each a matrix of 16
// rows of 64 bytes, and an instruction that multiplies two of bf16 and adds to one of fp32. In
// assembler, for the reason that PairProducts is (panel_kernels-inl.h). Where TAMIAS_EMULATED_TILES
// is defined, tests/tile_emulator does the same in plain loops.
#pragma once

#include <cstdint>

namespace tamias::cpu {

// Whether the processor has tiles of bf16, the system lets this process use them, and Highway's
// AVX-512 code is what runs.
bool MultipliesInTiles();

namespace tiles {

constexpr int64_t kRows = 16;
constexpr int64_t kRowBytes = 64;
constexpr int64_t kDepth = 32;  // of one product: the bf16 of a row

// What a thread loads before it uses tiles: all eight of full size.
struct alignas(64) Configuration {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {kRowBytes, kRowBytes, kRowBytes, kRowBytes,
                            kRowBytes, kRowBytes, kRowBytes, kRowBytes};
  uint8_t rows[16] = {kRows, kRows, kRows, kRows, kRows, kRows, kRows, kRows};
};

#ifdef TAMIAS_EMULATED_TILES
void Configure(const Configuration& configuration);
void Release();
void Zero(int tile);
void Load(int tile, const void* rows, int64_t stride);
void Store(int tile, void* rows, int64_t stride);
void MultiplyPairs(int sum, int a, int b);
#else
inline void Configure(const Configuration& configuration) {
  asm volatile("ldtilecfg %0" : : "m"(configuration));
}
inline void Release() { asm volatile("tilerelease"); }
#endif

template <int kTile>
void Zero() {
#ifdef TAMIAS_EMULATED_TILES
  Zero(kTile);
#else
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
#endif
}

// Row i of the tile is at rows + i * stride, in bytes.
template <int kTile>
void Load(const void* rows, int64_t stride) {
#ifdef TAMIAS_EMULATED_TILES
  Load(kTile, rows, stride);
#else
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(rows), "r"(stride), "i"(kTile) : "memory");
#endif
}

template <int kTile>
void Store(void* rows, int64_t stride) {
#ifdef TAMIAS_EMULATED_TILES
  Store(kTile, rows, stride);
#else
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(rows), "r"(stride), "i"(kTile) : "memory");
#endif
}

// sum[i][j] += over k < 16: a[i][2 k] b[k][2 j] + a[i][2 k + 1] b[k][2 j + 1], with sum in fp32, a
// and b in bf16.
template <int kSum, int kA, int kB>
void MultiplyPairs() {
#ifdef TAMIAS_EMULATED_TILES
  MultiplyPairs(kSum, kA, kB);
#else
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
#endif
}

// The calling thread's tiles, from here to the end of the scope.
class Session {
 public:
  Session() { Configure(Configuration()); }
  ~Session() { Release(); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
};

}  // namespace tiles
}  // namespace tamias::cpu
