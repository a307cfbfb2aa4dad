// torch.randn on the CPU: a 32-bit Mersenne Twister, 24-bit uniforms, Box-Muller over blocks of 16
// (8 radii, 8 angles), or over pairs of doubles where there are fewer than 16 numbers.
#include "tamias/random.h"

#include <cmath>
#include <numbers>

namespace tamias {
namespace {

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

}  // namespace

float TorchGenerator::UniformFloat() {
  return static_cast<float>(engine_() & 0xFFFFFFu) * 0x1p-24f;
}

double TorchGenerator::UniformDouble() {
  const uint64_t high = engine_();
  const uint64_t low = engine_();
  return static_cast<double>(((high << 32) | low) & ((uint64_t{1} << 53) - 1)) * 0x1p-53;
}

void TorchGenerator::FillBlocks(std::span<float> values) {
  for (float& value : values) value = UniformFloat();
  for (size_t i = 0; i + kBlock <= values.size(); i += kBlock) {
    TransformBlock(values.subspan(i, kBlock));
  }
  if (values.size() % kBlock != 0) {  // the last block is drawn anew, overlapping the one before
    const std::span<float> tail = values.last(kBlock);
    for (float& value : tail) value = UniformFloat();
    TransformBlock(tail);
  }
}

// Below 16 elements torch draws doubles and keeps the second value of each pair for the next call.
void TorchGenerator::FillOneByOne(std::span<float> values) {
  for (float& value : values) {
    if (kept_) {
      value = static_cast<float>(*kept_);
      kept_.reset();
      continue;
    }
    const double u1 = UniformDouble();
    const double u2 = UniformDouble();
    const double radius = std::sqrt(-2.0 * std::log1p(-u2));
    const double theta = 2.0 * std::numbers::pi * u1;
    value = static_cast<float>(radius * std::cos(theta));
    kept_ = radius * std::sin(theta);
  }
}

void TorchGenerator::Normal(std::span<float> values) {
  if (values.size() >= kBlock) {
    FillBlocks(values);
  } else {
    FillOneByOne(values);
  }
}

void TorchNormal(uint64_t seed, std::span<float> values) { TorchGenerator(seed).Normal(values); }

}  // namespace tamias
