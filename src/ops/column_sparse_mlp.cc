// Entry of the column-sparse MLP: checks, then the device's implementation.
#include "ops/column_sparse_mlp.h"

#include <algorithm>

#include "ops/check_tensor.h"

namespace tamias {
namespace {

constexpr std::string_view kOperation = "column-sparse MLP";

struct MlpShape {
  int64_t batch, tokens, model_dim, neurons, groups;
};

MlpShape CheckProblem(const ConstTensorView& rows, std::string_view rows_name,
                      const MlpWeights& weights, const NeuronSelection& selection) {
  if (selection.group_size < 1) {
    Fail(ErrorCode::kInvalidArgument, "{}: group_size: expected at least 1, found {}", kOperation,
         selection.group_size);
  }
  CheckTensor(kOperation, rows_name, rows, DType::kF32, {-1, -1, -1});
  CheckUnitStride(kOperation, rows_name, rows);
  const int64_t model_dim = rows.dim(2);
  CheckWeight(kOperation, "fc1_weight", weights.fc1_weight, {-1, model_dim});
  CheckUnitStride(kOperation, "fc1_weight", weights.fc1_weight);
  const int64_t rows_of_fc1 = weights.fc1_weight.dim(0);
  if (weights.gated && rows_of_fc1 % 2 != 0) {
    Fail(ErrorCode::kInvalidArgument, "{}: fc1_weight: expected an even number of rows, found {}",
         kOperation, rows_of_fc1);
  }
  if (!weights.fc1_bias.empty()) {
    CheckWeight(kOperation, "fc1_bias", weights.fc1_bias, {rows_of_fc1});
    CheckUnitStride(kOperation, "fc1_bias", weights.fc1_bias);
  }
  const int64_t groups = (rows.dim(1) + selection.group_size - 1) / selection.group_size;
  return {rows.dim(0), rows.dim(1), model_dim, weights.gated ? rows_of_fc1 / 2 : rows_of_fc1,
          groups};
}

void CheckSelection(const NeuronSelection& selection, const MlpShape& shape) {
  CheckTensor(kOperation, "indices", selection.indices, DType::kI32,
              {shape.batch, shape.groups, -1});
  CheckContiguous(kOperation, "indices", selection.indices);
  CheckTensor(kOperation, "counts", selection.counts, DType::kI32, {shape.batch, shape.groups});
  CheckContiguous(kOperation, "counts", selection.counts);
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

void CheckCache(const TensorView& cached_activations, const NeuronSelection& selection,
                const MlpShape& shape) {
  CheckTensor(kOperation, "cached_activations", cached_activations, DType::kF32,
              {shape.batch, shape.groups, shape.neurons, selection.group_size});
  CheckContiguous(kOperation, "cached_activations", cached_activations);
}

void CheckDelta(const ConstTensorView& delta, const NeuronSelection& selection,
                const MlpShape& shape) {
  CheckTensor(kOperation, "delta", delta, DType::kF32,
              {shape.batch, shape.groups, selection.indices.dim(2), selection.group_size});
  CheckContiguous(kOperation, "delta", delta);
}

void CheckSecondProduct(const TensorView& output_cache, const MlpWeights& weights,
                        const MlpShape& shape) {
  CheckTensor(kOperation, "output_cache", output_cache, DType::kF32,
              {shape.batch, shape.tokens, shape.model_dim});
  CheckUnitStride(kOperation, "output_cache", output_cache);
  CheckTensor(kOperation, "fc2_weight_transposed", weights.fc2_weight_transposed, DType::kF32,
              {shape.neurons, shape.model_dim});
  CheckContiguous(kOperation, "fc2_weight_transposed", weights.fc2_weight_transposed);
}

}  // namespace

void ColumnSparseMlpUp(Context& context, ConstTensorView input, const MlpWeights& weights,
                       const NeuronSelection& selection, TensorView cached_activations,
                       TensorView delta) {
  if (context.IsOnGpu()) {
    return cuda::ColumnSparseMlpUp(context.stream(), input, weights, selection, cached_activations,
                                   delta);
  }
  const MlpShape shape = CheckProblem(input, "input", weights, selection);
  CheckSelection(selection, shape);
  CheckCache(cached_activations, selection, shape);
  CheckDelta(delta, selection, shape);
  cpu::ColumnSparseMlpUp(context, input, weights, selection, cached_activations, delta);
}

void ColumnSparseMlpDown(Context& context, ConstTensorView delta, const MlpWeights& weights,
                         const NeuronSelection& selection, TensorView output_cache) {
  if (context.IsOnGpu()) {
    return cuda::ColumnSparseMlpDown(context.stream(), delta, weights, selection, output_cache);
  }
  const MlpShape shape = CheckProblem(output_cache, "output_cache", weights, selection);
  CheckSelection(selection, shape);
  CheckDelta(delta, selection, shape);
  CheckSecondProduct(output_cache, weights, shape);
  cpu::ColumnSparseMlpDown(context, delta, weights, selection, output_cache);
}

void ColumnSparseMlp(Context& context, ConstTensorView input, const MlpWeights& weights,
                     const NeuronSelection& selection, TensorView cached_activations,
                     TensorView output_cache) {
  if (context.IsOnGpu()) {
    Workspace::Scope scope(context.workspace());
    const TensorView delta = context.workspace().Allocate(
        {input.dim(0), cached_activations.dim(1), selection.indices.dim(2), selection.group_size},
        cached_activations.dtype());
    return cuda::ColumnSparseMlp(context.stream(), input, weights, selection, cached_activations,
                                 delta, output_cache);
  }
  const MlpShape shape = CheckProblem(input, "input", weights, selection);
  CheckSelection(selection, shape);
  CheckCache(cached_activations, selection, shape);
  CheckSecondProduct(output_cache, weights, shape);
  cpu::ColumnSparseMlp(context, input, weights, selection, cached_activations, output_cache);
}

void StoreActivations(Context& context, ConstTensorView activations,
                      TensorView cached_activations) {
  if (context.IsOnGpu()) {
    return cuda::StoreActivations(context.stream(), activations, cached_activations);
  }
  constexpr std::string_view kName = "store activations";
  CheckTensor(kName, "activations", activations, DType::kF32, {-1, -1, -1});
  CheckUnitStride(kName, "activations", activations);
  CheckTensor(kName, "cached_activations", cached_activations, DType::kF32,
              {activations.dim(0), -1, activations.dim(2), -1});
  CheckContiguous(kName, "cached_activations", cached_activations);
  const int64_t group_size = std::max<int64_t>(cached_activations.dim(3), 1);
  const int64_t groups = (activations.dim(1) + group_size - 1) / group_size;
  CheckTensor(kName, "cached_activations", cached_activations, DType::kF32,
              {activations.dim(0), groups, activations.dim(2), group_size});
  cpu::StoreActivations(context, activations, cached_activations);
}

}  // namespace tamias
