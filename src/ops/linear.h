// The dense (fully connected) layer, output = act(input weight^T + bias), in fp32.
// Shapes: M rows, K input features, N output features.
#pragma once

#include "base/context.h"
#include "base/tensor.h"
#include "ops/activation.h"

namespace tamias {

struct LinearOptions {
  Activation activation = Activation::kNone;
  bool accumulate = false;  // output += act(input weight^T + bias)
};

// input [..., K] f32 and output [..., N] f32 with the same leading axes, any strides with last
// stride 1; weight [N, K] f32, f16 or bf16, last stride 1, any row stride (a column slice of a
// wider matrix is one); bias [N] f32, f16 or bf16, stride 1, or empty. Output must not overlap the
// input. Throws kInvalidArgument for other shapes or dtypes. 16-bit weights are widened
// into the workspace during the call.
void Linear(Context& context, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            TensorView output, LinearOptions options = {});

namespace reference {
void Linear(Context& context, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            TensorView output, LinearOptions options = {});
}  // namespace reference
namespace cpu {
void Linear(Context& context, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            TensorView output, LinearOptions options = {});
}  // namespace cpu

// On a GPU, by cuBLASLt (the operation above converts an input and a bias that have other types):
// input and weight bf16 or f16, both alike, output f32 or their type, bias the output's type;
// accumulation is fp32. The rows of input and output may lie along two strides (batch items, rows).
// `accumulate` goes with no activation only. scratch: u8, CublasLt::kScratchBytes of it. Returns
// once the work is enqueued.
namespace cuda {
class CublasLt;  // ops/cuda/cublas_lt.h
class Stream;
void Linear(CublasLt& library, Stream& stream, ConstTensorView input, ConstTensorView weight,
            ConstTensorView bias, TensorView scratch, TensorView output,
            LinearOptions options = {});
}  // namespace cuda

}  // namespace tamias
