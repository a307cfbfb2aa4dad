// The plan of a dense layer: see the header.
#include "ops/cuda/linear_plan.h"

#include <algorithm>
#include <vector>

#include "base/check.h"
#include "ops/cuda/check_operand.h"

namespace tamias::cuda {
namespace {

constexpr std::string_view kName = "linear";

// Leading axes that can be walked with one stride in both tensors, the fastest first.
struct Rows {
  int64_t size, input_stride, output_stride;
};

std::vector<Rows> RowsOf(const ConstTensorView& input, const ConstTensorView& output) {
  std::vector<Rows> rows;
  for (int axis = input.rank() - 2; axis >= 0; --axis) {
    const Rows next{input.dim(axis), input.stride(axis), output.stride(axis)};
    if (next.size == 1) continue;
    if (!rows.empty() && next.input_stride == rows.back().input_stride * rows.back().size &&
        next.output_stride == rows.back().output_stride * rows.back().size) {
      rows.back().size *= next.size;
    } else {
      rows.push_back(next);
    }
  }
  return rows;
}

void SetRows(const ConstTensorView& input, const ConstTensorView& output, LinearPlan& plan) {
  const std::vector<Rows> rows = RowsOf(input, output);
  if (rows.size() > 2) {
    Fail(ErrorCode::kInvalidArgument,
         "{}: input: expected rows along at most two strides, found strides {} for shape {} and {} "
         "in the output",
         kName, input.strides().ToString(), input.shape().ToString(), output.strides().ToString());
  }
  plan.rows = rows.empty() ? 1 : rows[0].size;
  plan.input_stride = rows.empty() ? plan.inputs : rows[0].input_stride;
  plan.output_stride = rows.empty() ? plan.outputs : rows[0].output_stride;
  if (rows.size() == 2) {
    plan.batches = rows[1].size;
    plan.input_batch_stride = rows[1].input_stride;
    plan.output_batch_stride = rows[1].output_stride;
  }
}

int AlignmentOf(const ConstTensorView& view) {
  constexpr uintptr_t kMost = 256;
  const auto address = reinterpret_cast<uintptr_t>(view.raw()) | kMost;
  return static_cast<int>(address & (~address + 1));
}

void SetActivation(const LinearOptions& options, LinearPlan& plan) {
  const bool is_epilogue =
      options.activation == Activation::kRelu || options.activation == Activation::kGeluTanh;
  (is_epilogue ? plan.fused : plan.after) = options.activation;
  plan.accumulates = options.accumulate;
  if (options.accumulate && options.activation != Activation::kNone) {
    Fail(ErrorCode::kInvalidArgument,
         "{}: options: expected no activation when the output is accumulated on a GPU", kName);
  }
}

}  // namespace

LinearPlan PlanLinear(const ConstTensorView& input, const ConstTensorView& weight,
                      const ConstTensorView& bias, const TensorView& output,
                      const LinearOptions& options) {
  CheckHalves(kName, "input", input);
  CheckAlike(kName, "weight", weight, input.dtype());
  if (output.dtype() != DType::kF32) CheckAlike(kName, "output", output, input.dtype());
  if (!bias.empty()) CheckAlike(kName, "bias", bias, output.dtype());
  CheckRange(kName, "input: features", input.dim(-1), 1, INT32_MAX);
  LinearPlan plan;
  plan.inputs = input.dim(-1);
  plan.outputs = weight.dim(0);
  plan.weight_stride = weight.dim(0) > 1 ? weight.stride(0) : plan.inputs;
  plan.dtype = input.dtype();
  plan.output_type = output.dtype();
  plan.has_bias = !bias.empty();
  plan.input_alignment = AlignmentOf(input);
  plan.weight_alignment = AlignmentOf(weight);
  plan.output_alignment = AlignmentOf(output);
  SetRows(input, output, plan);
  SetActivation(options, plan);
  CheckRange(kName, "input: row stride", plan.input_stride, plan.inputs, INT64_MAX);
  CheckRange(kName, "weight: row stride", plan.weight_stride, plan.inputs, INT64_MAX);
  CheckRange(kName, "output: row stride", plan.output_stride, plan.outputs, INT64_MAX);
  if (plan.after != Activation::kNone) CheckVectorRows(kName, "output", output);
  return plan;
}

}  // namespace tamias::cuda
