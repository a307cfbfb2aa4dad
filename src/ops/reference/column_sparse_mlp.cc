// The column-sparse MLP delta, one dot product at a time in double precision.
#include "ops/column_sparse_mlp.h"

#include "ops/activation.h"

#include <algorithm>
#include <vector>

namespace tamias::reference {
namespace {

double WeightAt(const ConstTensorView& weight, int64_t offset) {
  switch (weight.dtype()) {
    case DType::kF16:
      return static_cast<double>(ToFloat(weight.data<Float16>()[offset]));
    case DType::kBF16:
      return static_cast<double>(ToFloat(weight.data<BFloat16>()[offset]));
    default:
      return static_cast<double>(weight.data<float>()[offset]);
  }
}

// input . fc1_weight[row] + fc1_bias[row]
double Fc1(const float* input, const MlpWeights& weights, int64_t row) {
  double sum = weights.fc1_bias.empty() ? 0 : WeightAt(weights.fc1_bias, row);
  for (int64_t k = 0; k < weights.fc1_weight.dim(1); ++k) {
    sum += static_cast<double>(input[k]) *
           WeightAt(weights.fc1_weight, row * weights.fc1_weight.stride(0) + k);
  }
  return sum;
}

double Hidden(const float* input, const MlpWeights& weights, int64_t neuron) {
  const double first = Fc1(input, weights, neuron);
  if (!weights.gated) return ActivateScalar(weights.activation, first);
  const double second = Fc1(input, weights, neuron + weights.fc1_weight.dim(0) / 2);
  return weights.gate_first ? ActivateScalar(weights.activation, first) * second
                            : first * ActivateScalar(weights.activation, second);
}

// body(batch, group, first token, end token, indices, count)
template <typename Body>
void ForEachGroup(const NeuronSelection& selection, int64_t tokens, const Body& body) {
  const int64_t groups = selection.indices.dim(1), capacity = selection.indices.dim(2);
  for (int64_t b = 0; b < selection.indices.dim(0); ++b) {
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t begin = g * selection.group_size;
      body(b, g, begin, std::min(begin + selection.group_size, tokens),
           selection.indices.data<int32_t>() + (b * groups + g) * capacity,
           selection.counts.data<int32_t>()[b * groups + g]);
    }
  }
}

}  // namespace

void ColumnSparseMlpUp(Context&, ConstTensorView input, const MlpWeights& weights,
                       const NeuronSelection& selection, TensorView cached_activations,
                       TensorView delta) {
  const int64_t groups = delta.dim(1), capacity = delta.dim(2), lanes = delta.dim(3);
  const int64_t neurons = cached_activations.dim(2);
  ForEachGroup(
      selection, input.dim(1),
      [&](int64_t b, int64_t g, int64_t begin, int64_t end, const int32_t* indices, int32_t count) {
        float* cache = cached_activations.data<float>() + (b * groups + g) * neurons * lanes;
        float* group_delta = delta.data<float>() + (b * groups + g) * capacity * lanes;
        for (int32_t j = 0; j < count; ++j) {
          for (int64_t i = begin; i < end; ++i) {
            const float* row = input.data<float>() + b * input.stride(0) + i * input.stride(1);
            float& cached = cache[indices[j] * lanes + i - begin];
            const double value = Hidden(row, weights, indices[j]);
            group_delta[j * lanes + i - begin] =
                static_cast<float>(value - static_cast<double>(cached));
            cached = static_cast<float>(value);
          }
        }
      });
}

void ColumnSparseMlpDown(Context&, ConstTensorView delta, const MlpWeights& weights,
                         const NeuronSelection& selection, TensorView output_cache) {
  const int64_t groups = delta.dim(1), capacity = delta.dim(2), lanes = delta.dim(3);
  const int64_t model_dim = output_cache.dim(2);
  const float* fc2 = weights.fc2_weight_transposed.data<float>();
  ForEachGroup(
      selection, output_cache.dim(1),
      [&](int64_t b, int64_t g, int64_t begin, int64_t end, const int32_t* indices, int32_t count) {
        const float* group_delta = delta.data<float>() + (b * groups + g) * capacity * lanes;
        for (int64_t i = begin; i < end; ++i) {
          float* output =
              output_cache.data<float>() + b * output_cache.stride(0) + i * output_cache.stride(1);
          for (int64_t k = 0; k < model_dim; ++k) {
            double sum = static_cast<double>(output[k]);
            for (int32_t j = 0; j < count; ++j) {
              sum += static_cast<double>(group_delta[j * lanes + i - begin]) *
                     static_cast<double>(fc2[indices[j] * model_dim + k]);
            }
            output[k] = static_cast<float>(sum);
          }
        }
      });
}

void ColumnSparseMlp(Context& context, ConstTensorView input, const MlpWeights& weights,
                     const NeuronSelection& selection, TensorView cached_activations,
                     TensorView output_cache) {
  Tensor delta(
      {input.dim(0), selection.indices.dim(1), selection.indices.dim(2), selection.group_size},
      DType::kF32);
  reference::ColumnSparseMlpUp(context, input, weights, selection, cached_activations,
                               delta.view());
  reference::ColumnSparseMlpDown(context, delta.view(), weights, selection, output_cache);
}

void StoreActivations(Context&, ConstTensorView activations, TensorView cached_activations) {
  float* cached = cached_activations.data<float>();
  const int64_t group_size = cached_activations.dim(3);
  for (int64_t b = 0; b < cached_activations.dim(0); ++b) {
    for (int64_t g = 0; g < cached_activations.dim(1); ++g) {
      for (int64_t f = 0; f < cached_activations.dim(2); ++f) {
        for (int64_t i = g * group_size; i < (g + 1) * group_size; ++i) {
          *cached++ =
              i < activations.dim(1)
                  ? activations
                        .data<float>()[b * activations.stride(0) + i * activations.stride(1) + f]
                  : 0.0f;
        }
      }
    }
  }
}

}  // namespace tamias::reference
