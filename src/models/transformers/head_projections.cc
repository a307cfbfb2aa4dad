// Query, key and value of a layer: see the header. Query and key are prepared together; what the
// value will fill holds the projected key until then, so that no scratch is needed but one tensor.
#include "models/transformers/head_projections.h"

#include <algorithm>
#include <vector>

#include "models/attention_heads.h"
#include "tamias/ops/norm.h"
#include "tamias/ops/rotary.h"

namespace tamias {
namespace {

// Tokens [begin, begin + n) of a projection [B, S, d] into their places in heads [B, H, S, D].
void AddParts(TensorView projection, ConstTensorView norm, int64_t begin, int64_t end,
              const HeadPositions& positions, TensorView heads, std::vector<HeadRows>& parts) {
  const TensorView projected = SplitHeads(projection, heads.dim(1));
  const int64_t turned = std::clamp(positions.first, begin, end);
  if (begin < turned) {
    parts.push_back({.input = projected.Slice(2, begin, turned),
                     .norm_weight = norm,
                     .cosine = {},
                     .sine = {},
                     .output = heads.Slice(2, begin, turned)});
  }
  if (turned == end) return;
  const auto angles = [&](const ConstTensorView& table) {
    return table.Slice(table.rank() - 2, turned - positions.first, end - positions.first);
  };
  parts.push_back({.input = projected.Slice(2, turned, end),
                   .norm_weight = norm,
                   .cosine = angles(positions.cos),
                   .sine = angles(positions.sin),
                   .output = heads.Slice(2, turned, end)});
}

}  // namespace

void ProjectHeads(Context& context, std::span<const HeadStream> streams,
                  const HeadPositions& positions, float epsilon, TensorView scratch,
                  const Heads& heads) {
  const TensorView& queries = scratch;
  const TensorView keys = heads.value.Reshape(scratch.shape());
  std::vector<HeadRows> parts;
  for (const auto& [layers, tokens, begin] : streams) {
    const int64_t end = begin + tokens.dim(1);
    const TensorView query = queries.Slice(1, begin, end), key = keys.Slice(1, begin, end);
    layers.query(context, tokens, query);
    layers.key(context, tokens, key);
    if (layers.norms_all_heads) {
      RmsNorm(context, query, layers.query_norm, epsilon, query);
      RmsNorm(context, key, layers.key_norm, epsilon, key);
    }
    const bool norms_heads = !layers.norms_all_heads;  // else they were normed whole
    const ConstTensorView query_norm = norms_heads ? layers.query_norm : ConstTensorView();
    const ConstTensorView key_norm = norms_heads ? layers.key_norm : ConstTensorView();
    AddParts(queries, query_norm, begin, end, positions, heads.query, parts);
    AddParts(keys, key_norm, begin, end, positions, heads.key, parts);
  }
  RmsNormRotary(context, parts, epsilon);
  for (const auto& [layers, tokens, begin] : streams) {
    layers.value(context, tokens, scratch.Slice(1, begin, begin + tokens.dim(1)));
  }
  RmsNormRotary(context, SplitHeads(scratch, heads.value.dim(1)), {}, epsilon, {}, {}, heads.value);
}

}  // namespace tamias
