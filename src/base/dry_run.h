// What code takes from the workspace of its stage, found by running it dry.
#pragma once

#include <cstddef>

#include "tamias/context.h"

namespace tamias {

// run(context) with a planning context of the placement; threads as Context. In bytes, at the peak.
template <typename Run>
size_t PlannedWorkspace(const Placement& placement, int threads, const Run& run) {
  Context context = Context::Planning(placement, threads);
  run(context);
  return context.workspace().peak_bytes();
}

}  // namespace tamias
