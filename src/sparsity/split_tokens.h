// Which tokens of a sequence each of several GPUs computes.
#pragma once

#include <cstdint>
#include <vector>

#include "tamias/sparsity/config.h"
#include "tamias/sparsity/geometry.h"

namespace tamias {

// The rank_bounds of `ranks` GPUs: as many joint tokens on each as whole groups of the MLP allow,
// where its deltas are sparse, all text being the first one's, and at least one group of the image.
// Throws kInvalidArgument where the heads cannot be shared out, or there are too few tokens.
std::vector<int64_t> SplitTokens(const SparsityConfig& config, const SparseGeometry& geometry,
                                 int ranks);

}  // namespace tamias
