// Meetings of queues are events: one of the two of a rank is recorded again two meetings later,
// when nobody can still be about to wait for it.
#include "sparsity/rank_exchange.h"

#include "base/check.h"
#include "base/cuda/peer.h"

namespace tamias {
namespace {

// Fetches a part of what `from` has; returns the bytes that another GPU sent.
size_t Fetch(Context& context, ConstTensorView from, TensorView to) {
  cuda::CopyFromPeer(context.stream(), from, to);
  if (from.device() == context.device()) return 0;
  return static_cast<size_t>(from.NumElements()) * SizeOf(from.dtype());
}

}  // namespace

RankExchange::RankExchange(const Devices& devices)
    : ranks_(devices.size()), rendezvous_(static_cast<int>(devices.size())) {
  for (size_t i = 0; i < devices.size(); ++i) {
    for (auto& event : ranks_[i].events) event = std::make_unique<cuda::Event>(devices[i].index);
    for (const Device peer : devices) {
      if (peer != devices[i]) cuda::AllowPeerAccess(devices[i].index, peer.index);
    }
  }
}

void RankExchange::Meet(Context& context, int rank) {
  Rank& own = ranks_[static_cast<size_t>(rank)];
  const auto turn = static_cast<size_t>(own.turn ^= 1);
  own.events[turn]->Record(context.stream());
  rendezvous_.Meet();
  for (const Rank& other : ranks_) {
    if (&other != &own) other.events[turn]->BlockStream(context.stream());
  }
}

size_t RankExchange::Attention(RankExchange* exchange, Context& context,
                               const SparseGeometry& geometry, const AttentionInputs& inputs,
                               TensorView output, const Attend& attend) {
  const int64_t tokens = geometry.joint_tokens(), heads = geometry.heads_of_rank();
  Workspace::Scope scope(context.workspace());
  const DType dtype = inputs.query.dtype();
  const auto allocate = [&](const Shape& shape) {
    return context.workspace().Allocate(shape, dtype);
  };
  const Shape shape = {1, heads, tokens, geometry.head_dim};
  const QueryKeyValue fetched = {allocate(shape), allocate(shape), allocate(shape)};
  AttentionInputs own = inputs;
  own.query = fetched[0];
  own.key = fetched[1];
  own.value = fetched[2];
  const TensorView attended = allocate({1, tokens, heads, geometry.head_dim});
  const TensorView by_heads = attended.Permute({0, 2, 1, 3});
  if (context.IsPlanning()) {
    attend(own, by_heads);
    return 0;
  }
  TAMIAS_CHECK(exchange != nullptr);
  Rank& rank = exchange->ranks_[static_cast<size_t>(geometry.rank)];
  rank.inputs = inputs;
  exchange->Meet(context, geometry.rank);
  size_t bytes = exchange->FetchHeads(context, geometry, fetched);
  attend(own, by_heads);
  rank.attended = attended;
  exchange->Meet(context, geometry.rank);
  bytes += exchange->FetchTokens(context, geometry, output.Permute({0, 2, 1, 3}));
  exchange->Meet(context, geometry.rank);  // others have fetched: the workspace may be used again
  return bytes;
}

// Each begins with what is its own, so that not all fetch from one at a time.
size_t RankExchange::FetchHeads(Context& context, const SparseGeometry& geometry,
                                const QueryKeyValue& to) {
  const int64_t first = geometry.first_head(), last = first + geometry.heads_of_rank();
  size_t bytes = 0;
  for (int i = 0; i < geometry.num_ranks(); ++i) {
    const int from = (geometry.rank + i) % geometry.num_ranks();
    const AttentionInputs& theirs = ranks_[static_cast<size_t>(from)].inputs;
    const TokenRange rows = geometry.RowsOfRank(from, geometry.joint_tokens());
    const std::array sources = {theirs.query, theirs.key, theirs.value};
    for (size_t k = 0; k < sources.size(); ++k) {
      bytes +=
          Fetch(context, sources[k].Slice(1, first, last), to[k].Slice(2, rows.begin, rows.end));
    }
  }
  return bytes;
}

size_t RankExchange::FetchTokens(Context& context, const SparseGeometry& geometry, TensorView to) {
  const TokenRange rows = geometry.OwnRows(geometry.joint_tokens());
  const int64_t heads = geometry.heads_of_rank();
  size_t bytes = 0;
  for (int i = 0; i < geometry.num_ranks(); ++i) {
    const int from = (geometry.rank + i) % geometry.num_ranks();
    const ConstTensorView& theirs = ranks_[static_cast<size_t>(from)].attended;
    bytes += Fetch(context, theirs.Slice(1, rows.begin, rows.end),
                   to.Slice(2, from * heads, (from + 1) * heads));
  }
  return bytes;
}

void RankExchange::Reset() {
  rendezvous_.Reset();
  for (Rank& rank : ranks_) rank.turn = 0;
}

Distance RankExchange::Sum(int rank, const Distance& own) {
  ranks_[static_cast<size_t>(rank)].distance = own;
  rendezvous_.Meet();
  Distance sum;
  for (const Rank& each : ranks_) sum += each.distance;
  return sum;
}

}  // namespace tamias
