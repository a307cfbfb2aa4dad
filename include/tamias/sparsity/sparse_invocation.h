// What a model sees of the sparsity layer: one object per model call of a step (conditional and
// unconditional), which computes each attention and each MLP densely or as a sparse delta against
// what it kept from earlier steps. Owned by the SparseSession of a generation.
// Symbols: B batch, L text tokens, N image tokens, H heads, D head dimension, d model width,
// M rows of an MLP, C output channels.
#pragma once

#include <cstdint>
#include <memory>

#include "tamias/context.h"
#include "tamias/ops/attention.h"
#include "tamias/ops/column_sparse_mlp.h"
#include "tamias/tensor.h"

namespace tamias {

class InvocationState;

class SparseInvocation {
 public:
  explicit SparseInvocation(std::unique_ptr<InvocationState> state);
  ~SparseInvocation();
  SparseInvocation(const SparseInvocation&) = delete;
  SparseInvocation& operator=(const SparseInvocation&) = delete;

  // Tensors lie on the context's device. Inputs and outputs of attention and MLP have the type of
  // its activations, hidden states and predictions are f32.

  // What of the text [B, L, ...] is among the tokens of this call: all of it, or nothing on those
  // of the GPUs that compute one together that are not the first. The image tokens that are given
  // to the model there are its own alone.
  ConstTensorView OwnText(ConstTensorView text) const;

  // Whether this step is skipped by schedule. The model then needs no inputs of its blocks, does
  // not call BeginForward and goes on as where that is false.
  bool IsSkipped() const;

  // Whether BeginForward looks at what it is given: step_caching.threshold is set.
  bool ComparesInputs() const;
  // Called by the model once a forward pass with the modulated input [B, N, d] of its first block
  // (layer norm, shift and scale applied), which may be empty unless ComparesInputs. false: the
  // input has hardly changed and the model goes on from its last layer if it gets a CachedHidden,
  // else returns CachedPrediction. Always true unless step_caching.threshold is set.
  bool BeginForward(Context& context, ConstTensorView modulated_input);

  // Joint attention of layer `layer`, text tokens first: query, key, value and output
  // [B, H, L + N, D], any strides with last stride 1. Of several GPUs that compute a call, each
  // gives and gets its own tokens (L, N: of these), contiguous in all but the output, which has the
  // heads of a token side by side; batch 1.
  void Attention(Context& context, int layer, const AttentionInputs& inputs, TensorView output);

  // Whether the MLP of this layer is computed as a delta on sparse steps.
  bool HasSparseMlp(int layer) const;
  // The MLP of layer `layer`: input [B, M, d] -> output [B, M, d], overwritten, fc2_bias included.
  // M is the geometry's mlp_tokens[layer], or what of them is this GPU's. A sparse step needs
  // fc2_weight_transposed.
  void Mlp(Context& context, int layer, const MlpWeights& weights, ConstTensorView input,
           TensorView output);

  // Called by the model after its blocks with the hidden state of the image [B, N, d], before the
  // last norm, and at the end of a forward pass with its output [B, N, C]. Step caching keeps a
  // copy of the one or the other (step_caching.reuse).
  void StoreHidden(Context& context, ConstTensorView hidden);
  void StorePrediction(Context& context, ConstTensorView prediction);
  // On a skipped step. True: hidden [B, N, d] is that of the last step that ran, for the last layer
  // with this step's modulation. False, and nothing done: predictions are kept.
  bool CachedHidden(Context& context, TensorView hidden);
  // prediction [B, N, C]: what stands in for this step's, from those stored before
  // (StepCache::Reuse). On a skipped step where CachedHidden is false.
  void CachedPrediction(Context& context, TensorView prediction);

  InvocationState& state() { return *state_; }

 private:
  // All tokens of this GPU's heads.
  void AttentionOfHeads(Context& context, int layer, const AttentionInputs& inputs,
                        TensorView output);

  std::unique_ptr<InvocationState> state_;
};

}  // namespace tamias
