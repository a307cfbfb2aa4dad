// What a call takes from the workspace at most, by a dry run of it.
#pragma once

#include "base/context.h"

namespace tamias {

// call(context) with a planning context of the same placement and threads as `context`.
template <typename Call>
size_t PlannedPeak(const Context& context, const Call& call) {
  Context planned = Context::Planning(context.placement(), context.threads());
  call(planned);
  return planned.workspace().peak_bytes();
}

}  // namespace tamias
