// What the kernels of the column-sparse MLP share, whatever GPU they are written for: the operands
// of both products, the tokens that a tile works on, the chosen neurons, and a neuron's activation.
#pragma once

#include "ops/cuda/activation.cuh"
#include "ops/cuda/product_schedule.cuh"
#include "tamias/dtype.h"

namespace tamias::cuda {

constexpr int kMlpUnitTokens = 128;  // tokens of one group that a tile works on

// Factors of 8 bits lie as their pairs, 16 bits each: d and the strides of input and fc1_weight
// count pairs then.
struct MlpUpTask {
  const void* input;  // [B, N, d]
  int64_t input_batch_stride, input_stride;
  const float* input_scales;  // [B, N], of factors of 8 bits; else null
  const void* fc1_weight;     // [F, d] or [2F, d]
  int64_t fc1_stride;
  const float* fc1_scales;  // [F] or [2F], of factors of 8 bits; else null
  const void* fc1_bias;     // null: none
  DType bias_type;
  const int32_t* indices;    // [B * G, capacity]
  const int32_t* counts;     // [B * G]
  void* cached_activations;  // [B * G, F, group_size]
  void* delta;               // [B * G, capacity, group_size]
  int tokens, model_dim, neurons, groups, capacity, group_size;
  int units_per_group;
  bool gate_first;
  Activation activation;
  ProductSchedule schedule;

  bool IsFloat8() const { return input_scales != nullptr; }
};

struct MlpDownTask {
  const void* delta;                  // [B * G, capacity, group_size]
  const void* fc2_weight_transposed;  // [F, d]
  const int32_t* indices;
  const int32_t* counts;
  void* output_cache;  // [B, N, d]
  DType output_type;
  int64_t output_batch_stride, output_stride;
  int tokens, model_dim, neurons, groups, capacity, group_size;
  int units_per_group;
  ProductSchedule schedule;
};

// A unit of a task: its group over all batch items, the batch item, and its tokens in the group.
struct MlpUnit {
  int64_t group;
  int64_t batch;
  int first;        // token of the group that the unit begins with
  int first_token;  // the same, counted in the batch item
  int count;        // of chosen neurons

  // unit_tokens: the most that a unit has; the task says how many units that makes of a group.
  template <typename Task>
  __device__ MlpUnit(const Task& task, int64_t unit, int unit_tokens = kMlpUnitTokens) {
    const auto number = static_cast<uint32_t>(unit);  // the schedule keeps it in 32 bits
    const auto per_group = static_cast<uint32_t>(task.units_per_group);
    const uint32_t in_all = number / per_group, groups = static_cast<uint32_t>(task.groups);
    group = in_all;
    batch = in_all / groups;
    first = static_cast<int>(number % per_group) * unit_tokens;
    first_token = static_cast<int>(in_all % groups) * task.group_size + first;
    count = max(0, min(task.counts[group], task.capacity));
  }
};

// The chosen neurons of one tile.
struct ChosenNeurons {
  const int32_t* indices;  // of the tile
  int count;               // from there on; <= 0: none
  int neurons;

  // The neuron in place `place` of the tile, or -1.
  __device__ int Neuron(int place) const {
    const int neuron = place < count ? indices[place] : -1;
    return neuron < neurons ? neuron : -1;
  }
};

__device__ inline float BiasOf(const MlpUpTask& task, int64_t row) {
  return task.fc1_bias == nullptr ? 0.0f : LoadOne(task.fc1_bias, task.bias_type, row);
}

// What is added to the products of a neuron with the rows of W1; `second` of gated MLPs only.
struct NeuronBias {
  float first = 0, second = 0;
};

template <bool kGated>
__device__ NeuronBias BiasOfNeuron(const MlpUpTask& task, int neuron) {
  NeuronBias bias{BiasOf(task, neuron)};
  if (kGated) bias.second = BiasOf(task, static_cast<int64_t>(task.neurons) + neuron);
  return bias;
}

// act(first) or act(first) * second (or the other way round), from the products of eight tokens.
template <bool kGated>
__device__ Floats8 HiddenOf(const MlpUpTask& task, NeuronBias bias, Floats8 first, Floats8 second) {
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    first[i] += bias.first;
    second[i] += bias.second;
  }
  if (!kGated) {
    Activate8(task.activation, first);
    return first;
  }
  Floats8 active = task.gate_first ? first : second;
  Activate8(task.activation, active);
#pragma unroll
  for (int i = 0; i < kVector; ++i) active[i] *= task.gate_first ? second[i] : first[i];
  return active;
}

}  // namespace tamias::cuda
