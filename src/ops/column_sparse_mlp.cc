// Entry of the column-sparse MLP: checks, then the device's implementation.
#include "ops/column_sparse_mlp.h"

#include <algorithm>

#include "base/check.h"
#include "ops/check_tensor.h"
#include "ops/dequantise.h"
#include "ops/dispatch.h"
#include "ops/quantise_rows.h"

namespace tamias {
namespace {

constexpr std::string_view kOperation = "column-sparse MLP";

struct MlpShape {
  int64_t batch, tokens, model_dim, neurons, groups;
};

MlpShape CheckProblem(const Context& context, const ConstTensorView& rows,
                      std::string_view rows_name, const MlpWeights& weights,
                      const NeuronSelection& selection) {
  CheckAtLeast(kOperation, "group_size", selection.group_size, 1);
  CheckActivationRows(context, kOperation, rows_name, rows, {-1, -1, -1});
  const int64_t model_dim = rows.dim(2);
  CheckMatrix(context, kOperation, "fc1_weight", weights.fc1_weight, {-1, model_dim});
  CheckUnitStride(kOperation, "fc1_weight", weights.fc1_weight);
  const int64_t rows_of_fc1 = weights.fc1_weight.dim(0);
  if (weights.gated && rows_of_fc1 % 2 != 0) {
    Fail(ErrorCode::kInvalidArgument, "{}: fc1_weight: expected an even number of rows, found {}",
         kOperation, rows_of_fc1);
  }
  CheckOptionalWeight(context, kOperation, "fc1_bias", weights.fc1_bias, rows_of_fc1);
  const int64_t groups = (rows.dim(1) + selection.group_size - 1) / selection.group_size;
  return {rows.dim(0), rows.dim(1), model_dim, weights.gated ? rows_of_fc1 / 2 : rows_of_fc1,
          groups};
}

void CheckContents(const NeuronSelection& selection, const MlpShape& shape) {
  const int64_t capacity = selection.indices.dim(2);
  for (int64_t g = 0; g < shape.batch * shape.groups; ++g) {
    const int32_t count = selection.counts.data<int32_t>()[g];
    if (count < 0 || count > capacity) {
      Fail(ErrorCode::kInvalidArgument, "{}: counts: expected 0 to {} in group {}, found {}",
           kOperation, capacity, g, count);
    }
    const int32_t* indices = selection.indices.data<int32_t>() + g * capacity;
    uint32_t largest = 0;  // a negative index becomes a large one
    for (int32_t j = 0; j < count; ++j) {
      largest = std::max(largest, static_cast<uint32_t>(indices[j]));
    }
    if (count > 0 && largest >= static_cast<uint64_t>(shape.neurons)) {
      Fail(ErrorCode::kInvalidArgument, "{}: indices: expected 0 to {} in group {}, found {}",
           kOperation, shape.neurons - 1, g, static_cast<int32_t>(largest));
    }
  }
}

void CheckSelection(const Context& context, const NeuronSelection& selection,
                    const MlpShape& shape) {
  CheckList(context, kOperation, "indices", selection.indices, DType::kI32,
            {shape.batch, shape.groups, -1});
  CheckList(context, kOperation, "counts", selection.counts, DType::kI32,
            {shape.batch, shape.groups});
  if (!context.IsOnGpu() && !context.IsPlanning()) CheckContents(selection, shape);
}

// The cache, the delta or the transposed weights: contiguous.
void CheckState(const Context& context, std::string_view argument, const ConstTensorView& view,
                const Shape& shape) {
  CheckActivations(context, kOperation, argument, view, shape);
  CheckContiguous(kOperation, argument, view);
}

void CheckCache(const Context& context, const TensorView& cached_activations,
                const NeuronSelection& selection, const MlpShape& shape) {
  CheckState(context, "cached_activations", cached_activations,
             {shape.batch, shape.groups, shape.neurons, selection.group_size});
}

void CheckDelta(const Context& context, const ConstTensorView& delta,
                const NeuronSelection& selection, const MlpShape& shape) {
  CheckState(context, "delta", delta,
             {shape.batch, shape.groups, selection.indices.dim(2), selection.group_size});
}

void CheckSecondProduct(const Context& context, const TensorView& output_cache,
                        const MlpWeights& weights, const MlpShape& shape) {
  CheckActivationRows(context, kOperation, "output_cache", output_cache,
                      {shape.batch, shape.tokens, shape.model_dim});
  CheckState(context, "fc2_weight_transposed", weights.fc2_weight_transposed,
             {shape.neurons, shape.model_dim});
}

// The factors of the first product as they are multiplied, valid in the caller's workspace scope.
// W1 whole, since the neurons that all groups choose together are nearly all there are.
struct FirstProduct {
  ConstTensorView input;
  const float* input_scales = nullptr;  // of factors in 8 bits
  MlpWeights weights;
};

ConstTensorView AsBatch(const ConstTensorView& matrix) {
  return matrix.SplitAxis(0, 1, matrix.dim(0));
}

// What the rows are in 8 bits.
ConstTensorView Quantised(Context& context, const ConstTensorView& rows) {
  const TensorView codes = context.workspace().Allocate(rows.shape(), DType::kF8E4M3);
  const TensorView scales = context.workspace().Allocate({rows.dim(0), rows.dim(1)}, DType::kF32);
  QuantiseRows(context, rows, codes, scales);
  return MatrixOf(codes, scales);
}

// The same in the type of the activations.
ConstTensorView RoundedToFloat8(Context& context, const ConstTensorView& rows) {
  const TensorView rounded = context.workspace().Allocate(rows.shape(), context.activation_dtype());
  Workspace::Scope scope(context.workspace());
  Dequantise(context, Quantised(context, rows),
             rounded.Reshape({rows.dim(0) * rows.dim(1), rows.dim(2)}));
  return rounded;
}

FirstProduct FirstProductOf(Context& context, const ConstTensorView& input, MlpWeights weights) {
  ConstTensorView& matrix = weights.fc1_weight;
  const bool is_quantised = matrix.dtype() == DType::kF8E4M3;
  if (!weights.is_fp8) {
    matrix = Dequantised(context, matrix);
    return {input, nullptr, weights};
  }
  // A plan, which knows no GPU's kind, takes the other way: it takes more.
  if (context.IsOnGpu() && !context.IsPlanning() &&
      cuda::MultipliesFloat8(context.stream(), matrix)) {
    if (!is_quantised) matrix = Quantised(context, AsBatch(matrix));
    const ConstTensorView codes = Quantised(context, input);
    return {ConstTensorView(codes.raw(), codes.dtype(), input.shape(), codes.device()),
            codes.row_scales(), weights};
  }
  matrix = is_quantised ? Dequantised(context, matrix)
                        : RoundedToFloat8(context, AsBatch(matrix)).Reshape(matrix.shape());
  return {RoundedToFloat8(context, input), nullptr, weights};
}

}  // namespace

void ColumnSparseMlpUp(Context& context, ConstTensorView input, const MlpWeights& weights,
                       const NeuronSelection& selection, TensorView cached_activations,
                       TensorView delta) {
  const MlpShape shape = CheckProblem(context, input, "input", weights, selection);
  CheckSelection(context, selection, shape);
  CheckCache(context, cached_activations, selection, shape);
  CheckDelta(context, delta, selection, shape);
  Workspace::Scope scope(context.workspace());
  const FirstProduct first = FirstProductOf(context, input, weights);
  DispatchWithCpuScratch(
      context,
      [&] {
        cpu::ColumnSparseMlpUp(context, first.input, first.weights, selection, cached_activations,
                               delta);
      },
      [&](cuda::Stream& stream) {
        cuda::ColumnSparseMlpUp(stream, first.input, first.weights, selection, cached_activations,
                                delta, first.input_scales);
      });
}

void ColumnSparseMlpDown(Context& context, ConstTensorView delta, const MlpWeights& weights,
                         const NeuronSelection& selection, TensorView output_cache) {
  const MlpShape shape = CheckProblem(context, output_cache, "output_cache", weights, selection);
  CheckSelection(context, selection, shape);
  CheckDelta(context, delta, selection, shape);
  CheckSecondProduct(context, output_cache, weights, shape);
  DispatchWithCpuScratch(
      context, [&] { cpu::ColumnSparseMlpDown(context, delta, weights, selection, output_cache); },
      [&](cuda::Stream& stream) {
        cuda::ColumnSparseMlpDown(stream, delta, weights, selection, output_cache);
      });
}

void ColumnSparseMlp(Context& context, ConstTensorView input, const MlpWeights& weights,
                     const NeuronSelection& selection, TensorView cached_activations,
                     TensorView output_cache) {
  const MlpShape shape = CheckProblem(context, input, "input", weights, selection);
  CheckSelection(context, selection, shape);
  CheckCache(context, cached_activations, selection, shape);
  CheckSecondProduct(context, output_cache, weights, shape);
  Workspace::Scope scope(context.workspace());
  const FirstProduct first = FirstProductOf(context, input, weights);
  TensorView delta;  // on the CPU it never leaves the cache
  if (context.IsOnGpu()) {
    delta = context.workspace().Allocate(
        {shape.batch, shape.groups, selection.indices.dim(2), selection.group_size},
        cached_activations.dtype());
  }
  DispatchWithCpuScratch(
      context,
      [&] {
        cpu::ColumnSparseMlp(context, first.input, first.weights, selection, cached_activations,
                             output_cache);
      },
      [&](cuda::Stream& stream) {
        cuda::ColumnSparseMlp(stream, first.input, first.weights, selection, cached_activations,
                              delta, output_cache, first.input_scales);
      });
}

void StoreActivations(Context& context, ConstTensorView activations,
                      TensorView cached_activations) {
  constexpr std::string_view kName = "store activations";
  CheckActivationRows(context, kName, "activations", activations, {-1, -1, -1});
  CheckList(context, kName, "cached_activations", cached_activations, activations.dtype(),
            {activations.dim(0), -1, activations.dim(2), -1});
  const int64_t group_size = std::max<int64_t>(cached_activations.dim(3), 1);
  const int64_t groups = (activations.dim(1) + group_size - 1) / group_size;
  CheckTensor(context, kName, "cached_activations", cached_activations, activations.dtype(),
              {activations.dim(0), groups, activations.dim(2), group_size});
  Dispatch(
      context, [&] { cpu::StoreActivations(context, activations, cached_activations); },
      [&](cuda::Stream& stream) {
        cuda::StoreActivations(stream, activations, cached_activations);
      });
}

}  // namespace tamias
