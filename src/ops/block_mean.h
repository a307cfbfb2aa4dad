// The operations of tamias/ops/block_mean.h as each device computes them. src/ops/block_mean.cc
// checks the arguments and calls these.
#pragma once

#include "tamias/ops/block_mean.h"

namespace tamias {

namespace reference {
void BlockMean(Context& context, ConstTensorView input, int64_t group_size, TensorView output);
}  // namespace reference
namespace cpu {
void BlockMean(Context& context, ConstTensorView input, int64_t group_size, TensorView output);
}  // namespace cpu

namespace cuda {
class Stream;
void BlockMean(Stream& stream, ConstTensorView input, int64_t group_size, TensorView output);
}  // namespace cuda

}  // namespace tamias
