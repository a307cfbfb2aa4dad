// The MLP of one layer and one invocation as a delta (Chipmunk, arXiv 2506.03275, section "MLP").
// A full step computes all neurons and keeps their activations and the output. On a sparse step the
// change of the block mean tells which neurons moved most for a block of tokens; these alone are
// computed anew and the output moves by the difference.
// Symbols: B batch, M tokens, d model width, F neurons, P = F pre-activations (2F when gated),
// G = ceil(M / group_size) blocks of tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "tamias/context.h"
#include "tamias/ops/column_sparse_mlp.h"
#include "tamias/sparsity/config.h"
#include "tamias/sparsity/geometry.h"
#include "tamias/sparsity/report.h"
#include "tamias/sparsity/state_builder.h"
#include "tamias/tensor.h"

namespace tamias {

// output[b, i, :] = fc2(act(fc1(input[b, i, :]))), biases included; input, output [B, M, d] in the
// type of the context's activations.
// With cached_activations [B, G, F, group_size] the activations are kept there as well.
void DenseMlp(Context& context, const MlpWeights& weights, ConstTensorView input, TensorView output,
              TensorView cached_activations = {});

class StepNumbers;

class DeltaMlp {
 public:
  // should_profile: drift is measured over everything, not a sample. tokens: M. `seed` is of this
  // layer. With a geometry of several ranks: its rows of the M alone, which begin a group.
  DeltaMlp(const SparsityConfig::Mlp& config, bool should_profile, const SparseGeometry& geometry,
           int64_t tokens, uint64_t seed, StateBuilder& state);

  // input [B, M, d] -> output [B, M, d] (M: of the rank). Adds work, drift and time to the report.
  // Before the first full step, a sparse step is computed as a full one. Throws kInvalidArgument
  // for other shapes. numbers: as of DeltaAttention::Run.
  void Run(Context& context, int64_t step, bool is_full, const MlpWeights& weights,
           ConstTensorView input, TensorView output, LayerReport& report,
           StepNumbers* numbers = nullptr);
  // The next step is as the first.
  void Forget();

 private:
  void RunFull(Context& context, int64_t step, const MlpWeights& weights, ConstTensorView input,
               TensorView output, LayerReport& report, StepNumbers* numbers);
  void RunSparse(Context& context, int64_t step, const MlpWeights& weights, ConstTensorView input,
                 TensorView output, LayerReport& report, StepNumbers* numbers);
  // A selection serves block_mask_cache steps from step 10 on, one step before, and never outlives
  // a full step, after which other neurons will move.
  bool IsSelectionDue(int64_t step) const;
  void SelectNeurons(Context& context, int64_t step, const MlpWeights& weights,
                     ConstTensorView input, StepNumbers* numbers);
  // fc1(block mean of input) without the activation: [B, G, P].
  void BlockMeanPreActivations(Context& context, const MlpWeights& weights, ConstTensorView input,
                               TensorView output);
  // A run of blocks of one batch item.
  struct Blocks {
    int64_t batch;
    int64_t first;
    int64_t last;  // exclusive
  };
  // What drift is measured on: everything with should_profile_, else an eighth of one batch item,
  // or what of that the rank has.
  std::vector<Blocks> SampledBlocks(bool is_planning) const;
  // Moves the caches of some blocks as a sparse step does.
  void Move(Context& context, const MlpWeights& weights, ConstTensorView input,
            const Blocks& blocks);
  void MeasureDrift(Context& context, ConstTensorView full, LayerReport& report,
                    StepNumbers* numbers) const;
  // The seed of a step's draw, of the rows of this rank, `count` numbers each.
  uint64_t SeedOfRows(uint64_t seed, int64_t count) const;

  SparsityConfig::Mlp config_;
  bool should_profile_;
  SparseGeometry geometry_;
  int64_t tokens_;  // of the rank
  uint64_t seed_;
  int64_t group_size_;
  int64_t num_groups_;
  int64_t first_group_;  // the number of the first of these among all_groups_
  int64_t all_groups_;   // of the M
  int64_t num_chosen_;   // neurons of a block by change, rounded
  int64_t full_steps_ = 0;
  int64_t selection_step_ = -1;  // of the last selection; -1: none since the last full step
  double selected_pairs_ = 0;    // token-neuron pairs of the selection

  // [B, G, F, group_size] in the type of the activations, tokens along the fastest axis
  Tensor activations_;
  Tensor output_;      // [B, M, d] f32: every sparse step adds to it
  Tensor block_mean_;  // [B, G, P] f32
  Tensor indices_;     // [B, G, F] i32
  Tensor counts_;      // [B, G] i32
};

}  // namespace tamias
