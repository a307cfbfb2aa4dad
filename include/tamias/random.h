// Random numbers. `TorchGenerator` reproduces torch.randn on PyTorch's CPU generator, so that a
// seed gives the same picture in diffusers and here. `CounterRandom` is stateless: the value at
// (seed, index) does not depend on the order of evaluation or the number of threads.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <span>

namespace tamias {

// torch.Generator().manual_seed(seed) on a CPU: one stream, from which tensors are drawn in turn.
class TorchGenerator {
 public:
  explicit TorchGenerator(uint64_t seed) : engine_(static_cast<uint32_t>(seed)) {}

  // Fills `values` as torch.randn(values.size(), generator=...) does in fp32: mt19937; at 16 or
  // more elements Box-Muller over blocks of 16 uniform 24-bit numbers (ATen's normal_fill), below
  // that pairs of 53-bit doubles.
  void Normal(std::span<float> values);

 private:
  float UniformFloat();
  double UniformDouble();
  void FillBlocks(std::span<float> values);
  void FillOneByOne(std::span<float> values);

  std::mt19937 engine_;         // torch seeds it with the low 32 bits
  std::optional<double> kept_;  // the second number of a pair, for the next small tensor
};

// The first tensor of a generator of this seed.
void TorchNormal(uint64_t seed, std::span<float> values);

// The seed whose numbers are those of `seed` from `index` on: CounterRandom(SeedFrom(seed, n), i)
// is CounterRandom(seed, n + i).
constexpr uint64_t SeedFrom(uint64_t seed, uint64_t index) {
  return seed + 0x9E3779B97F4A7C15u * index;
}

// A uniform 32-bit number for each (seed, index): two rounds of a 64-bit finaliser (splitmix64).
constexpr uint32_t CounterRandom(uint64_t seed, uint64_t index) {
  uint64_t z = SeedFrom(seed, index + 1);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return static_cast<uint32_t>((z ^ (z >> 31)) >> 32);
}

}  // namespace tamias
