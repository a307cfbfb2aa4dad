// The tiles of AMX in plain loops, for programs whose kernels are compiled with
// TAMIAS_EMULATED_TILES: each thread has eight. They hold nothing until they are configured, NaN
// until they are written to, and what uses them outside of a session ends the program. Any
// processor with AVX-512 then passes for one that has them.
#include "tests/tile_emulator/tiles.h"

#include <hwy/targets.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "ops/cpu/tiles.h"
#include "tamias/dtype.h"

namespace tamias::cpu {

bool MultipliesInTiles() { return (hwy::SupportedTargets() & HWY_AVX3) != 0; }

namespace tiles {
namespace {

constexpr int kTiles = 8;

union Row {
  float floats[kRowBytes / 4];
  BFloat16 halves[kRowBytes / 2];
};

struct Tile {
  Row rows[kRows];
};

struct Registers {
  bool are_configured = false;
  Tile tiles[kTiles];
};

thread_local Registers registers;
std::atomic<int64_t> products = 0;  // of all threads

[[noreturn]] void Refuse(const char* what) {
  std::fprintf(stderr, "emulated tiles: %s\n", what);
  std::abort();
}

Tile& TileOf(int index) {
  if (!registers.are_configured) Refuse("used outside of a session");
  if (index < 0 || index >= kTiles) Refuse("there are eight");
  return registers.tiles[index];
}

}  // namespace

void Configure(const Configuration& configuration) {
  if (registers.are_configured) Refuse("configured twice");
  if (configuration.palette != 1 || configuration.start_row != 0) Refuse("unknown palette");
  for (int i = 0; i < 16; ++i) {
    const bool is_whole = configuration.row_bytes[i] == kRowBytes && configuration.rows[i] == kRows;
    const bool is_none = configuration.row_bytes[i] == 0 && configuration.rows[i] == 0;
    if (i < kTiles ? !is_whole : !is_none) Refuse("eight whole tiles were expected");
  }
  registers.are_configured = true;
  for (Tile& tile : registers.tiles) {
    for (Row& row : tile.rows) std::fill_n(row.floats, kRowBytes / 4, std::nanf(""));
  }
}

void Release() {
  if (!registers.are_configured) Refuse("released twice");
  registers.are_configured = false;
}

void Zero(int tile) { std::memset(&TileOf(tile), 0, sizeof(Tile)); }

void Load(int tile, const void* rows, int64_t stride) {
  const auto* from = static_cast<const uint8_t*>(rows);
  for (int64_t i = 0; i < kRows; ++i) {
    std::memcpy(&TileOf(tile).rows[i], from + i * stride, kRowBytes);
  }
}

void Store(int tile, void* rows, int64_t stride) {
  auto* to = static_cast<uint8_t*>(rows);
  for (int64_t i = 0; i < kRows; ++i) {
    std::memcpy(to + i * stride, &TileOf(tile).rows[i], kRowBytes);
  }
}

void MultiplyPairs(int sum, int a, int b) {
  if (sum == a || sum == b || a == b) Refuse("operands must be three different tiles");
  ++products;
  const Tile &left = TileOf(a), &right = TileOf(b);
  for (int64_t i = 0; i < kRows; ++i) {
    for (int64_t j = 0; j < kRows; ++j) {
      float even = 0, odd = 0;
      for (int64_t k = 0; k < kRows; ++k) {
        even += ToFloat(left.rows[i].halves[2 * k]) * ToFloat(right.rows[k].halves[2 * j]);
        odd += ToFloat(left.rows[i].halves[2 * k + 1]) * ToFloat(right.rows[k].halves[2 * j + 1]);
      }
      TileOf(sum).rows[i].floats[j] += even + odd;
    }
  }
}

int64_t ProductsSoFar() { return products; }

}  // namespace tiles
}  // namespace tamias::cpu
