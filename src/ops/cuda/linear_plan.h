// How a dense layer becomes a call of cuBLASLt, which counts matrices in columns: with M rows, K
// input and N output features, all row-major,
//   output^T [N, M] = (weight^T [K, N])^T input^T [K, M]
// and row-major [R, C] with rows `stride` apart is column-major [C, R] of leading dimension
// `stride`. So A is the weight (transposed), B the input, D the output, and nothing is moved.
// Plain C++: no CUDA is needed for it.
#pragma once

#include <compare>

#include "ops/linear.h"

namespace tamias::cuda {

struct LinearPlan {
  int64_t rows = 0, inputs = 0, outputs = 0;                       // M, K, N
  int64_t input_stride = 0, weight_stride = 0, output_stride = 0;  // leading dimensions
  int64_t batches = 1, input_batch_stride = 0, output_batch_stride = 0;
  DType dtype = DType::kBF16, output_type = DType::kBF16;  // of input and weight; output and bias
  bool has_bias = false;
  bool accumulates = false;
  Activation fused = Activation::kNone;  // kRelu and kGeluTanh are epilogues of cuBLASLt
  Activation after = Activation::kNone;  // the others: a kernel of ours afterwards
  // Of the operands' memory, in bytes, a power of two up to 256.
  int input_alignment = 0, weight_alignment = 0, output_alignment = 0;

  // Plans that compare equal are served by the same algorithm: the key of its cache.
  auto operator<=>(const LinearPlan&) const = default;
};

// Of arguments that fit each other. Throws kInvalidArgument for types and strides that the library
// cannot serve.
LinearPlan PlanLinear(const ConstTensorView& input, const ConstTensorView& weight,
                      const ConstTensorView& bias, const TensorView& output,
                      const LinearOptions& options);

}  // namespace tamias::cuda
