// 8-bit floats (e4m3) read as fp32, by instructions that every GPU has: their bits in the places of
// a 16-bit float, whose bias is larger by 8. What is read is thus 2^8 times too small, which the
// caller's scale makes up for (kFloat8Unit). No NaN.
#pragma once

#include "ops/cuda/vector.cuh"

namespace tamias::cuda {

constexpr float kFloat8Unit = 256;

namespace float8 {

// The pair of 16-bit floats whose upper halves hold two codes.
__device__ inline float2 Unpack(uint32_t codes) {
  return UnpackPair<Float16>((codes & 0x80008000u) | ((codes & 0x7F007F00u) >> 1));
}

}  // namespace float8

// Codes offset to offset + 7. data + offset must lie on an 8-byte boundary.
__device__ inline Floats8 LoadFloat8s(const void* data, int64_t offset) {
  const uint2 bits = *reinterpret_cast<const uint2*>(static_cast<const uint8_t*>(data) + offset);
  const uint32_t words[2] = {bits.x, bits.y};
  Floats8 result;
  for (int i = 0; i < 2; ++i) {
    const float2 low = float8::Unpack(((words[i] & 0xFFu) << 8) | ((words[i] & 0xFF00u) << 16));
    const float2 high = float8::Unpack(((words[i] >> 8) & 0xFF00u) | (words[i] & 0xFF000000u));
    result[4 * i] = low.x;
    result[4 * i + 1] = low.y;
    result[4 * i + 2] = high.x;
    result[4 * i + 3] = high.y;
  }
  return result;
}

__device__ inline float LoadFloat8(const void* data, int64_t offset) {
  const uint32_t code = static_cast<const uint8_t*>(data)[offset];
  return float8::Unpack(code << 8).x;
}

}  // namespace tamias::cuda
