// The operations of tamias/ops/mask.h as each device computes them. src/ops/mask.cc checks the
// arguments and calls these.
#pragma once

#include "tamias/ops/mask.h"

namespace tamias {

namespace reference {
void RandomMask(Context& context, double probability, uint64_t seed, TensorView mask, int64_t n);
void MaskToIndices(Context& context, ConstTensorView mask, int64_t n, TensorView indices,
                   TensorView counts);
void CountMask(Context& context, ConstTensorView mask, TensorView counts);
void OrMask(Context& context, ConstTensorView source, int64_t limit, TensorView mask);
}  // namespace reference
namespace cpu {
void RandomMask(Context& context, double probability, uint64_t seed, TensorView mask, int64_t n);
void MaskToIndices(Context& context, ConstTensorView mask, int64_t n, TensorView indices,
                   TensorView counts);
void CountMask(Context& context, ConstTensorView mask, TensorView counts);
void OrMask(Context& context, ConstTensorView source, int64_t limit, TensorView mask);
}  // namespace cpu

namespace cuda {
class Stream;
void RandomMask(Stream& stream, double probability, uint64_t seed, TensorView mask, int64_t n);
// A row with more bits than the capacity is cut off: its count is the capacity, and overflow [1]
// i32, or empty, becomes the number of bits of the fullest such row (it is never lowered: set it to
// 0 first, read it when it suits).
void MaskToIndices(Stream& stream, ConstTensorView mask, int64_t n, TensorView indices,
                   TensorView counts, TensorView overflow);
void CountMask(Stream& stream, ConstTensorView mask, TensorView counts);
void OrMask(Stream& stream, ConstTensorView source, int64_t limit, TensorView mask);
void SetMaskRange(Stream& stream, TensorView mask, int64_t row, int64_t begin, int64_t end);
}  // namespace cuda

}  // namespace tamias
