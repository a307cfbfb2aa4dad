// What the GPUs that compute one model call hand to each other (DeepSpeed-Ulysses, arXiv
// 2309.14509): before attention the queries, keys and values of their tokens, so that each has all
// tokens of its heads; after it the outputs, so that each has all heads of its tokens; once a step
// a measure of change. One thread for each rank. Tensors are copied from GPU to GPU, each rank
// fetching what it needs: what it writes is its own memory, and its own queue orders that.
// Symbols: R ranks, H heads, N tokens of a rank, S of all, D head dimension.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/cuda/event.h"
#include "base/rendezvous.h"
#include "tamias/context.h"
#include "tamias/devices.h"
#include "tamias/ops/attention.h"
#include "tamias/ops/distance.h"
#include "tamias/sparsity/geometry.h"
#include "tamias/tensor.h"

namespace tamias {

class RankExchange {
 public:
  // devices: GPUs, of the ranks in their order.
  explicit RankExchange(const Devices& devices);

  // Of one rank: inputs and output [1, H, N, D] of its tokens, the output with the heads of a token
  // side by side in memory; attend(inputs, output) computes [1, H / R, S, D] of its heads. Returns
  // the bytes that came from other GPUs. Enqueued; all ranks make the same calls. exchange: null
  // when planning, where what it takes of the workspace is taken.
  using Attend = std::function<void(const AttentionInputs& inputs, TensorView output)>;
  static size_t Attention(RankExchange* exchange, Context& context, const SparseGeometry& geometry,
                          const AttentionInputs& inputs, TensorView output, const Attend& attend);
  // The sum over all ranks, the same to the bit on each. At most once a step.
  Distance Sum(int rank, const Distance& own);

  // Where a rank has failed, of this exchange or of another of the same work: the others fail where
  // they would wait for it.
  void Abandon() noexcept { rendezvous_.Abandon(); }
  // All ranks are there again; nothing of an exchange is under way.
  void Reset();

 private:
  // What a rank shows the others, and what it has enqueued.
  struct Rank {
    AttentionInputs inputs;    // [1, H, N, D]
    ConstTensorView attended;  // [1, S, H / R, D]
    Distance distance;
    std::array<std::unique_ptr<cuda::Event>, 2> events;  // of meetings, in turn
    int turn = 0;
  };
  // What this rank enqueues from now on runs after what all of them enqueued before, and what they
  // showed before can be seen.
  void Meet(Context& context, int rank);
  using QueryKeyValue = std::array<TensorView, 3>;
  size_t FetchHeads(Context& context, const SparseGeometry& geometry, const QueryKeyValue& to);
  size_t FetchTokens(Context& context, const SparseGeometry& geometry, TensorView to);

  std::vector<Rank> ranks_;
  Rendezvous rendezvous_;
};

}  // namespace tamias
