// The frame of a transformer's forward pass that step caching may cut short: its blocks and its
// last layer run, or the last layer alone over the hidden state that an earlier step left, or
// nothing and an earlier step's prediction serves. Symbols: B batch, N image tokens, d model width,
// C output channels.
#pragma once

#include "tamias/context.h"
#include "tamias/sparsity/sparse_invocation.h"
#include "tamias/tensor.h"

namespace tamias {

// hidden [B, N, d]: the image's part of the residual stream, embedded unless the invocation is
// skipped; prediction [B, N, C]. modulate(modulated) writes what the first block sees of hidden, in
// the type of the activations, where it is compared; run_blocks() moves hidden; project_out() makes
// the prediction of it.
template <typename Modulate, typename RunBlocks, typename ProjectOut>
void SkippableForward(Context& context, SparseInvocation& invocation, TensorView hidden,
                      TensorView prediction, const Modulate& modulate, const RunBlocks& run_blocks,
                      const ProjectOut& project_out) {
  const auto must_run = [&] {
    if (invocation.IsSkipped()) return false;
    if (!invocation.ComparesInputs()) return invocation.BeginForward(context, {});
    Workspace::Scope scope(context.workspace());
    const TensorView modulated =
        context.workspace().Allocate(hidden.shape(), context.activation_dtype());
    modulate(modulated);
    return invocation.BeginForward(context, modulated);
  };
  if (must_run()) {
    run_blocks();
    invocation.StoreHidden(context, hidden);
    project_out();
    invocation.StorePrediction(context, prediction);
  } else if (invocation.CachedHidden(context, hidden)) {
    project_out();
  } else {
    invocation.CachedPrediction(context, prediction);
  }
}

}  // namespace tamias
