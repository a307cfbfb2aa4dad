// Eight consecutive elements of an f32, f16 or bf16 array as floats, read and written with 16-byte
// accesses. The element type is a run-time argument: a switch that all threads take the same way
// costs a few instructions per eight elements, and one kernel serves every mixture of types.
#pragma once

#include "ops/cuda/primitives.cuh"
#include "tamias/dtype.h"

namespace tamias::cuda {

constexpr int kVector = 8;  // elements

struct Floats8 {
  float values[kVector];
  __device__ float& operator[](int i) { return values[i]; }
  __device__ float operator[](int i) const { return values[i]; }
};

namespace vector {

template <typename Half>
__device__ Floats8 Unpack8(const uint4& bits) {
  const uint32_t pairs[4] = {bits.x, bits.y, bits.z, bits.w};
  Floats8 result;
  for (int i = 0; i < 4; ++i) {
    const float2 pair = UnpackPair<Half>(pairs[i]);
    result[2 * i] = pair.x;
    result[2 * i + 1] = pair.y;
  }
  return result;
}

template <typename Half>
__device__ uint4 Pack8(const Floats8& v) {
  return {PackPair<Half>(v[0], v[1]), PackPair<Half>(v[2], v[3]), PackPair<Half>(v[4], v[5]),
          PackPair<Half>(v[6], v[7])};
}

}  // namespace vector

// Elements offset to offset + 7. data + offset must lie on a 16-byte boundary.
__device__ inline Floats8 Load8(const void* data, DType dtype, int64_t offset) {
  if (dtype == DType::kF32) {
    const float4* source =
        reinterpret_cast<const float4*>(static_cast<const float*>(data) + offset);
    const float4 low = source[0], high = source[1];
    return {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
  }
  const uint4 bits = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(data) + offset);
  return dtype == DType::kBF16 ? vector::Unpack8<BFloat16>(bits) : vector::Unpack8<Float16>(bits);
}

__device__ inline void Store8(void* data, DType dtype, int64_t offset, const Floats8& v) {
  if (dtype == DType::kF32) {
    float4* target = reinterpret_cast<float4*>(static_cast<float*>(data) + offset);
    target[0] = {v[0], v[1], v[2], v[3]};
    target[1] = {v[4], v[5], v[6], v[7]};
    return;
  }
  *reinterpret_cast<uint4*>(static_cast<uint16_t*>(data) + offset) =
      dtype == DType::kBF16 ? vector::Pack8<BFloat16>(v) : vector::Pack8<Float16>(v);
}

__device__ inline float LoadOne(const void* data, DType dtype, int64_t offset) {
  if (dtype == DType::kF32) return static_cast<const float*>(data)[offset];
  const uint32_t bits = static_cast<const uint16_t*>(data)[offset];
  return (dtype == DType::kBF16 ? UnpackPair<BFloat16>(bits) : UnpackPair<Float16>(bits)).x;
}

// The first `count` of eight elements, the others 0: the end of a row.
__device__ inline Floats8 LoadFirst(const void* data, DType dtype, int64_t offset, int64_t count) {
  if (count >= kVector) return Load8(data, dtype, offset);
  Floats8 result{};
#pragma unroll  // so that the elements have fixed places, in registers
  for (int i = 0; i < kVector; ++i) {
    if (i < count) result[i] = LoadOne(data, dtype, offset + i);
  }
  return result;
}

__device__ inline void StoreOne(void* data, DType dtype, int64_t offset, float value) {
  if (dtype == DType::kF32) {
    static_cast<float*>(data)[offset] = value;
    return;
  }
  const uint32_t bits =
      dtype == DType::kBF16 ? PackPair<BFloat16>(value, 0) : PackPair<Float16>(value, 0);
  static_cast<uint16_t*>(data)[offset] = static_cast<uint16_t>(bits);
}

__device__ inline void StoreFirst(void* data, DType dtype, int64_t offset, int64_t count,
                                  const Floats8& v) {
  if (count >= kVector) return Store8(data, dtype, offset, v);
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    if (i < count) StoreOne(data, dtype, offset + i, v[i]);
  }
}

}  // namespace tamias::cuda
