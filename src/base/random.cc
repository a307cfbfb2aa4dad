// torch.randn on the CPU: a 32-bit Mersenne Twister, 24-bit uniforms, Box-Muller over blocks of 16
// (8 radii, 8 angles), or over pairs of doubles where there are fewer than 16 numbers.
#include "base/random.h"

#include <cmath>
#include <numbers>
#include <random>

namespace tamias {
namespace {

// torch seeds mt19937 with the low 32 bits.
class TorchGenerator {
 public:
  explicit TorchGenerator(uint64_t seed) : engine_(static_cast<uint32_t>(seed)) {}

  float UniformFloat() { return static_cast<float>(engine_() & 0xFFFFFFu) * 0x1p-24f; }

  double UniformDouble() {
    const uint64_t high = engine_();
    const uint64_t low = engine_();
    return static_cast<double>(((high << 32) | low) & ((uint64_t{1} << 53) - 1)) * 0x1p-53;
  }

 private:
  std::mt19937 engine_;
};

constexpr size_t kBlock = 16;  // ATen's normal_fill works on blocks of 16

// Box-Muller in place: u1 = values[0..7], u2 = values[8..15].
void TransformBlock(std::span<float> values) {
  for (size_t i = 0; i < kBlock / 2; ++i) {
    const float u1 = 1.0f - values[i];  // (0, 1]: the logarithm stays finite
    const float u2 = values[i + kBlock / 2];
    const float radius = std::sqrt(-2.0f * std::log(u1));
    const float theta = 2.0f * std::numbers::pi_v<float> * u2;
    values[i] = radius * std::cos(theta);
    values[i + kBlock / 2] = radius * std::sin(theta);
  }
}

void FillBlocks(TorchGenerator& generator, std::span<float> values) {
  for (float& value : values) value = generator.UniformFloat();
  for (size_t i = 0; i + kBlock <= values.size(); i += kBlock) {
    TransformBlock(values.subspan(i, kBlock));
  }
  if (values.size() % kBlock != 0) {  // the last block is drawn anew, overlapping the one before
    const std::span<float> tail = values.last(kBlock);
    for (float& value : tail) value = generator.UniformFloat();
    TransformBlock(tail);
  }
}

// Below 16 elements torch draws doubles and keeps the second value of each pair for the next call.
void FillPairs(TorchGenerator& generator, std::span<float> values) {
  for (size_t i = 0; i < values.size(); i += 2) {
    const double u1 = generator.UniformDouble();
    const double u2 = generator.UniformDouble();
    const double radius = std::sqrt(-2.0 * std::log1p(-u2));
    const double theta = 2.0 * std::numbers::pi * u1;
    values[i] = static_cast<float>(radius * std::cos(theta));
    if (i + 1 < values.size()) values[i + 1] = static_cast<float>(radius * std::sin(theta));
  }
}

}  // namespace

void TorchNormal(uint64_t seed, std::span<float> values) {
  TorchGenerator generator(seed);
  if (values.size() >= kBlock) {
    FillBlocks(generator, values);
  } else {
    FillPairs(generator, values);
  }
}

}  // namespace tamias
