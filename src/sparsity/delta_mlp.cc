// Full and sparse steps of an MLP as a delta: see the header for the method.
#include "tamias/sparsity/delta_mlp.h"

#include <algorithm>
#include <memory>

#include "base/check.h"
#include "ops/check_tensor.h"
#include "ops/copy_indices.h"
#include "ops/dequantise.h"
#include "sparsity/step_numbers.h"
#include "sparsity/stopwatch.h"
#include "tamias/device_memory.h"
#include "tamias/ops/block_mean.h"
#include "tamias/ops/elementwise.h"
#include "tamias/ops/linear.h"
#include "tamias/ops/mask.h"
#include "tamias/ops/top_k.h"
#include "tamias/random.h"
#include "tamias/sparsity/selection.h"

namespace tamias {
namespace {

// Scores drawn to estimate the threshold of the approximate top-k: 1024 put the count within 5 % at
// 30 % of the neurons, for a fraction of the cost of a sort.
constexpr int64_t kSampleSize = 1024;
// While the picture takes shape, selections age within a step: they are renewed on each.
constexpr int64_t kEarlySteps = 10;
// Rows of activations in work at a time on a full step. On a CPU small layers stay in the L2 cache;
// layers whose weights do not fit it, and GPUs, take many rows, to read (and widen) the weights
// seldom.
constexpr int64_t kSmallWeights = 1 << 20;  // elements
constexpr int64_t kSmallRows = 512;
constexpr int64_t kActivationBytes = int64_t{256} << 20;

int64_t NumGroups(int64_t tokens, int64_t group_size) {
  return (tokens + group_size - 1) / group_size;
}

int64_t RowsPerChunk(int64_t model_dim, int64_t pre_activations, int64_t tokens, int64_t group_size,
                     const Placement& placement) {
  const bool is_small = model_dim * pre_activations <= kSmallWeights && !placement.IsOnGpu();
  const int64_t rows = is_small ? kSmallRows : kActivationBytes / (4 * pre_activations);
  return std::min(tokens, std::max(int64_t{1}, rows / group_size) * group_size);
}

// act(fc1(input)) for rows of one batch item, in `pre` [1, rows, P]; returns a view [1, rows, F].
TensorView Activations(Context& context, const MlpWeights& weights, ConstTensorView input,
                       TensorView pre) {
  if (!weights.gated) {
    Linear(context, input, weights.fc1_weight, weights.fc1_bias, pre,
           {.activation = weights.activation});
    return pre;
  }
  Linear(context, input, weights.fc1_weight, weights.fc1_bias, pre);
  const int64_t neurons = pre.dim(2) / 2;
  const TensorView first = pre.Slice(2, 0, neurons);
  const TensorView second = pre.Slice(2, neurons, 2 * neurons);
  Activate(context, weights.activation, weights.gate_first ? first : second);
  Multiply(context, first, second, first);
  return first;
}

}  // namespace

void DenseMlp(Context& context, const MlpWeights& given, ConstTensorView input, TensorView output,
              TensorView cached_activations) {
  const int64_t tokens = input.dim(1);
  const int64_t pre_activations = given.fc1_weight.dim(0);
  const int64_t group_size = cached_activations.empty() ? 1 : cached_activations.dim(3);
  const int64_t chunk =
      RowsPerChunk(input.dim(2), pre_activations, tokens, group_size, context.placement());
  Workspace::Scope scope(context.workspace());
  MlpWeights weights = given;  // widened once for all chunks
  weights.fc1_weight = Dequantised(context, given.fc1_weight);
  weights.fc2_weight = Dequantised(context, given.fc2_weight);
  const TensorView scratch =
      context.workspace().Allocate({1, chunk, pre_activations}, context.activation_dtype());
  for (int64_t b = 0; b < input.dim(0); ++b) {
    for (int64_t begin = 0; begin < tokens; begin += chunk) {
      const int64_t end = std::min(begin + chunk, tokens);
      const TensorView activations =
          Activations(context, weights, input.Slice(0, b, b + 1).Slice(1, begin, end),
                      scratch.Slice(1, 0, end - begin));
      if (!cached_activations.empty()) {
        StoreActivations(context, activations,
                         cached_activations.Slice(0, b, b + 1)
                             .Slice(1, begin / group_size, (end + group_size - 1) / group_size));
      }
      Linear(context, activations, weights.fc2_weight, weights.fc2_bias,
             output.Slice(0, b, b + 1).Slice(1, begin, end));
    }
  }
}

DeltaMlp::DeltaMlp(const SparsityConfig::Mlp& config, bool should_profile,
                   const SparseGeometry& geometry, int64_t tokens, uint64_t seed,
                   StateBuilder& state)
    : config_(config),
      should_profile_(should_profile),
      geometry_(geometry),
      tokens_(geometry.OwnRows(tokens).size()),
      seed_(seed),
      group_size_(config.mbm),
      num_groups_(NumGroups(tokens_, group_size_)),
      first_group_(geometry.OwnRows(tokens).begin / group_size_),
      all_groups_(NumGroups(tokens, group_size_)),
      num_chosen_(RoundedCount(config.top_keys, geometry.mlp_dim, config.counts_multiple_of)) {
  const int64_t batch = geometry.batch;
  const int64_t neurons = geometry.mlp_dim;
  const int64_t pre_activations = geometry.gated_mlp ? 2 * neurons : neurons;
  activations_ = state.Make("MLP activations", {batch, num_groups_, neurons, group_size_},
                            state.placement().activation_dtype);
  output_ = state.Make("MLP output cache", {batch, tokens_, geometry.model_dim});
  block_mean_ = state.Make("MLP block means", {batch, num_groups_, pre_activations});
  indices_ = state.Make("MLP selection", {batch, num_groups_, neurons}, DType::kI32);
  counts_ = state.Make("MLP selection", {batch, num_groups_}, DType::kI32);
}

void DeltaMlp::Run(Context& context, int64_t step, bool is_full, const MlpWeights& given,
                   ConstTensorView input, TensorView output, LayerReport& report,
                   StepNumbers* numbers) {
  const Shape rows = {geometry_.batch, tokens_, geometry_.model_dim};
  const int64_t neurons = geometry_.mlp_dim;
  CheckActivationRows(context, "delta mlp", "input", input, rows);
  CheckActivationRows(context, "delta mlp", "output", output, rows);
  CheckMatrix(context, "delta mlp", "fc1_weight", given.fc1_weight,
              {given.gated ? 2 * neurons : neurons, geometry_.model_dim});
  MlpWeights weights = given;
  weights.is_fp8 = config_.is_fp8;
  const double pairs =
      static_cast<double>(geometry_.batch * tokens_) * static_cast<double>(geometry_.mlp_dim);
  report.mlp.dense += pairs;
  if (is_full || full_steps_ == 0) {
    RunFull(context, step, weights, input, output, report, numbers);
    report.mlp.done += pairs;
  } else {
    RunSparse(context, step, weights, input, output, report, numbers);
    ThenUse(numbers, [this, &report] { report.mlp.done += selected_pairs_; });
  }
}

void DeltaMlp::Forget() {
  full_steps_ = 0;
  selection_step_ = -1;
}

void DeltaMlp::RunFull(Context& context, int64_t step, const MlpWeights& weights,
                       ConstTensorView input, TensorView output, LayerReport& report,
                       StepNumbers* numbers) {
  const bool measures = full_steps_ > 0;
  if (measures) {
    Stopwatch watch(context, report.seconds.mlp_selection);
    if (IsSelectionDue(step)) SelectNeurons(context, step, weights, input, numbers);
    for (const Blocks& blocks : SampledBlocks(context.IsPlanning())) {
      Move(context, weights, input, blocks);
    }
  }
  {
    Stopwatch watch(context, report.seconds.mlp);
    DenseMlp(context, weights, input, output, activations_);
  }
  Stopwatch watch(context, report.seconds.mlp_selection);
  if (measures) MeasureDrift(context, output, report, numbers);
  Convert(context, output, output_);
  BlockMeanPreActivations(context, weights, input, block_mean_);
  selection_step_ = -1;
  ++full_steps_;
}

void DeltaMlp::RunSparse(Context& context, int64_t step, const MlpWeights& weights,
                         ConstTensorView input, TensorView output, LayerReport& report,
                         StepNumbers* numbers) {
  if (IsSelectionDue(step)) {
    Stopwatch watch(context, report.seconds.mlp_selection);
    SelectNeurons(context, step, weights, input, numbers);
  }
  Stopwatch watch(context, report.seconds.mlp);
  ColumnSparseMlp(context, input, weights, {indices_.view(), counts_.view(), group_size_},
                  activations_, output_);
  Convert(context, output_.view(), output);
}

bool DeltaMlp::IsSelectionDue(int64_t step) const {
  return selection_step_ < 0 || step < kEarlySteps ||
         step - selection_step_ >= config_.block_mask_cache;
}

void DeltaMlp::BlockMeanPreActivations(Context& context, const MlpWeights& weights,
                                       ConstTensorView input, TensorView output) {
  Workspace::Scope scope(context.workspace());
  TensorView mean = context.workspace().Allocate(
      {geometry_.batch, num_groups_, geometry_.model_dim}, context.activation_dtype());
  BlockMean(context, input, group_size_, mean);
  Linear(context, mean, weights.fc1_weight, weights.fc1_bias, output);
}

void DeltaMlp::SelectNeurons(Context& context, int64_t step, const MlpWeights& weights,
                             ConstTensorView input, StepNumbers* numbers) {
  const int64_t rows = geometry_.batch * num_groups_;
  const int64_t neurons = geometry_.mlp_dim;
  const int64_t halves = geometry_.gated_mlp ? 2 : 1;
  Workspace::Scope scope(context.workspace());
  TensorView mean = context.workspace().Allocate({rows, halves * neurons}, DType::kF32);
  TensorView mean_change = context.workspace().Allocate({rows, halves * neurons}, DType::kF32);
  TensorView mask = context.workspace().Allocate({rows, MaskBytes(neurons)}, DType::kU8);
  BlockMeanPreActivations(context, weights, input,
                          mean.Reshape({geometry_.batch, num_groups_, halves * neurons}));
  const TensorView cached = block_mean_.view().Reshape({rows, halves * neurons});
  AbsoluteDifference(context, mean, cached, mean_change);
  TensorView change = mean_change.Slice(1, 0, neurons);
  if (halves == 2) Add(context, change, mean_change.Slice(1, neurons, 2 * neurons), change);
  const uint64_t seed = seed_ ^ (static_cast<uint64_t>(step + 1) * 0x9E3779B97F4A7C15u);
  Zero(context, mask);
  ApproximateTopKMask(context, change, num_chosen_, kSampleSize, SeedOfRows(seed, kSampleSize),
                      mask);
  if (config_.random_keys > 0) {
    RandomMask(context, config_.random_keys, SeedOfRows(~seed, neurons), mask, neurons);
  }
  const TensorView indices = indices_.view().Reshape({rows, neurons});
  const TensorView counts = counts_.view().Reshape({rows});
  MaskToIndices(context, mask, neurons, indices, counts);
  for (int64_t half = 0; half < halves; ++half) {
    CopyIndices(context, mean.Slice(1, half * neurons, (half + 1) * neurons), indices, counts,
                cached.Slice(1, half * neurons, (half + 1) * neurons));
  }
  selection_step_ = step;
  ReadNumbers(numbers, context, counts, [this](ConstTensorView chosen) {
    selected_pairs_ = 0;
    for (int64_t row = 0; row < chosen.dim(0); ++row) {
      const int64_t begin = row % num_groups_ * group_size_;
      selected_pairs_ += static_cast<double>(std::min(group_size_, tokens_ - begin) *
                                             chosen.host_data<int32_t>()[row]);
    }
  });
}

uint64_t DeltaMlp::SeedOfRows(uint64_t seed, int64_t count) const {
  return SeedFrom(seed, static_cast<uint64_t>(first_group_ * count));
}

std::vector<DeltaMlp::Blocks> DeltaMlp::SampledBlocks(bool is_planning) const {
  std::vector<Blocks> blocks;
  if (should_profile_) {
    for (int64_t b = 0; b < geometry_.batch; ++b) blocks.push_back({b, 0, num_groups_});
    return blocks;
  }
  const int64_t count = (all_groups_ + 7) / 8;
  const auto turn = full_steps_ + static_cast<int64_t>(seed_ % 1024);
  const int64_t first = std::min(turn % 8 * count, all_groups_ - count);
  const auto own = [&](int64_t group) {
    return std::clamp(group - first_group_, int64_t{0}, num_groups_);
  };
  const int64_t item = full_steps_ % geometry_.batch;
  // A plan counts on as many as there may be.
  if (is_planning) return {{item, 0, std::min(count, num_groups_)}};
  if (own(first) == own(first + count)) return {};
  return {{item, own(first), own(first + count)}};
}

void DeltaMlp::Move(Context& context, const MlpWeights& weights, ConstTensorView input,
                    const Blocks& blocks) {
  const int64_t begin = blocks.first * group_size_;
  const int64_t end = std::min(blocks.last * group_size_, tokens_);
  const auto of_item = [&](const auto& view) {
    return view.Slice(0, blocks.batch, blocks.batch + 1);
  };
  const NeuronSelection selection = {of_item(indices_.view()).Slice(1, blocks.first, blocks.last),
                                     of_item(counts_.view()).Slice(1, blocks.first, blocks.last),
                                     group_size_};
  ColumnSparseMlp(context, of_item(input).Slice(1, begin, end), weights, selection,
                  of_item(activations_.view()).Slice(1, blocks.first, blocks.last),
                  of_item(output_.view()).Slice(1, begin, end));
}

void DeltaMlp::MeasureDrift(Context& context, ConstTensorView full, LayerReport& report,
                            StepNumbers* numbers) const {
  const auto drift = std::make_shared<Distance>();
  const std::vector<Blocks> sampled_blocks = SampledBlocks(context.IsPlanning());
  const bool is_measured = !sampled_blocks.empty();
  for (const Blocks& blocks : sampled_blocks) {
    const int64_t begin = blocks.first * group_size_;
    const int64_t end = std::min(blocks.last * group_size_, tokens_);
    const auto sampled = [&](const ConstTensorView& view) {
      return view.Select(0, blocks.batch).Slice(0, begin, end);
    };
    MeasureLater(numbers, context, sampled(output_.view()), sampled(full),
                 [drift](const Distance& distance) { *drift += distance; });
  }
  ThenUse(numbers, [drift, is_measured, &report] {
    report.mlp_drift += {drift->squared, drift->squared_reference, is_measured};
  });
}

}  // namespace tamias
