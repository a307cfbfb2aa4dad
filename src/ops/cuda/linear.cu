// The dense layer on a GPU: a product of cuBLASLt, and our own kernel for the activations that are
// none of its epilogues.
#include "ops/linear.h"

#include "ops/activation.h"
#include "ops/cuda/cublas_lt.h"
#include "ops/cuda/linear_plan.h"

namespace tamias::cuda {

void Linear(CublasLt& library, Stream& stream, ConstTensorView input, ConstTensorView weight,
            ConstTensorView bias, TensorView scratch, TensorView output, LinearOptions options) {
  const LinearPlan plan = PlanLinear(input, weight, bias, output, options);
  if (output.NumElements() == 0) return;
  library.Multiply(stream, plan, input.raw(), weight.raw(), bias.raw(), output.raw(),
                   scratch.raw());
  if (plan.after != Activation::kNone) Activate(stream, plan.after, output);
}

}  // namespace tamias::cuda
