// The operations of tamias/ops/linear.h as each device computes them. src/ops/linear.cc checks the
// arguments and calls these.
#pragma once

#include "tamias/ops/linear.h"

namespace tamias {

namespace reference {
void Linear(Context& context, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            TensorView output, LinearOptions options = {});
}  // namespace reference
namespace cpu {
void Linear(Context& context, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            TensorView output, LinearOptions options = {});
}  // namespace cpu

// Here input and weight are alike, and the bias has the output's type. scratch: u8,
// CublasLt::kScratchBytes of it.
namespace cuda {
class CublasLt;  // ops/cuda/cublas_lt.h
class Stream;
void Linear(CublasLt& library, Stream& stream, ConstTensorView input, ConstTensorView weight,
            ConstTensorView bias, TensorView scratch, TensorView output,
            LinearOptions options = {});

// Of rows so few that the product waits for its weights: one launch, for operands of any types.
// Input and weight have whole vectors of eight, their rows begin at multiples of 16 bytes. Weights
// in 8-bit floats are read as such.
constexpr int kFewRows = 4;
void FewRowsLinear(Stream& stream, ConstTensorView input, ConstTensorView weight,
                   ConstTensorView bias, TensorView output, LinearOptions options = {});
}  // namespace cuda

}  // namespace tamias
