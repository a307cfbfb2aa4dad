// The dense (fully connected) layer, output = act(input weight^T + bias), in fp32.
// Shapes: M rows, K input features, N output features.
//
// On the CPU with activations in bf16 (tamias/context.h): input and output f32 or bf16, each on its
// own. bf16 weights are multiplied in bf16 where the processor does that, read in place, an input
// in f32 then being rounded to it (8 rows and fewer excepted); accumulation is fp32.
//
// On a GPU, by cuBLASLt: weight bf16 or f16, an input of another type is converted to it, output
// f32 or the weight's type; accumulation is fp32. The rows of input and output may lie along two
// strides (batch items, rows); `accumulate` goes with no activation only. The work is enqueued.
#pragma once

#include "tamias/context.h"
#include "tamias/ops/activation.h"
#include "tamias/tensor.h"

namespace tamias {

struct LinearOptions {
  Activation activation = Activation::kNone;
  bool accumulate = false;  // output += act(input weight^T + bias)
};

// input [..., K] f32 and output [..., N] f32 with the same leading axes, any strides with last
// stride 1; weight [N, K] f32, f16 or bf16, or fp8_e4m3 with scales of its rows, last stride 1, any
// row stride (a column slice of a wider matrix is one); bias [N] f32, f16 or bf16, stride 1, or
// empty. Output must not overlap the input. Throws kInvalidArgument for other shapes or dtypes.
// Weights of 16 bits on the CPU, and of 8 bits everywhere, are widened into the workspace during
// the call, these to the type of the context's activations.
void Linear(Context& context, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            TensorView output, LinearOptions options = {});

}  // namespace tamias
