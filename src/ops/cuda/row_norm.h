// The kernel behind everything that norms rows of a width: layer and RMS norm, with modulation or
// weights, after a gated residual or alone.
#pragma once

#include <span>

#include "ops/residual.h"

namespace tamias::cuda {

// As ResidualNorm, for rows over any number of axes where gain and offset are [d]. operation: for
// messages and launches.
void RowNorm(Stream& stream, const char* operation, std::span<const ResidualRows> streams,
             const ResidualNormOptions& options);

}  // namespace tamias::cuda
