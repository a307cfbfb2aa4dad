// The operations of tamias/ops/top_k.h as each device computes them. src/ops/top_k.cc checks the
// arguments and calls these.
#pragma once

#include "tamias/ops/top_k.h"

namespace tamias {

namespace reference {
void TopKMask(Context& context, ConstTensorView scores, int64_t k, TensorView mask);
void ApproximateTopKMask(Context& context, ConstTensorView scores, int64_t k, int64_t sample_size,
                         uint64_t seed, TensorView mask);
}  // namespace reference
namespace cpu {
void TopKMask(Context& context, ConstTensorView scores, int64_t k, TensorView mask);
void ApproximateTopKMask(Context& context, ConstTensorView scores, int64_t k, int64_t sample_size,
                         uint64_t seed, TensorView mask);
}  // namespace cpu

namespace cuda {
class Stream;
void TopKMask(Stream& stream, ConstTensorView scores, int64_t k, TensorView mask);
void ApproximateTopKMask(Stream& stream, ConstTensorView scores, int64_t k, int64_t sample_size,
                         uint64_t seed, TensorView mask);
}  // namespace cuda

}  // namespace tamias
