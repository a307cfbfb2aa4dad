// The bound nearest to an even share, group by group.
#include "sparsity/split_tokens.h"

#include <algorithm>

#include "base/check.h"

namespace tamias {

std::vector<int64_t> SplitTokens(const SparsityConfig& config, const SparseGeometry& geometry,
                                 int ranks) {
  if (geometry.num_heads % ranks != 0) {
    Fail(ErrorCode::kInvalidArgument,
         "device: expected a number of GPUs for each call of the transformer that divides its {} "
         "heads (num_attention_heads), found {}",
         geometry.num_heads, ranks);
  }
  const int64_t group = config.mlp.is_enabled ? config.mlp.mbm : 1;
  const int64_t image = geometry.image_tokens(), text = geometry.text_tokens;
  const int64_t groups = (image + group - 1) / group;
  if (groups < ranks) {
    Fail(ErrorCode::kInvalidArgument,
         "device: expected at most {} GPUs for each call of the transformer ({} image tokens in "
         "groups of {}), found {}",
         groups, image, group, ranks);
  }
  std::vector<int64_t> bounds = {0};
  for (int rank = 1; rank < ranks; ++rank) {
    const int64_t even = std::max(int64_t{0}, (text + image) * rank / ranks - text);
    const int64_t nearest = (even + group / 2) / group;
    const int64_t least = bounds.back() / group + 1;
    bounds.push_back(group * std::clamp(nearest, least, groups - (ranks - rank)));
  }
  bounds.push_back(image);
  return bounds;
}

}  // namespace tamias
