// A context that Python's threads may share: whoever uses it locks it.
#pragma once

#include <mutex>
#include <string_view>

#include "tamias/context.h"
#include "tamias/placement.h"

namespace tamias::python {

struct SharedContext {
  // threads: 0 means one per usable CPU; dtype: "f32", "bf16" (else kInvalidArgument).
  SharedContext(int threads, std::string_view dtype)
      : context(PlacementOn({}, DType::kF32, ParseActivationType(dtype)), threads) {}

  std::mutex mutex;
  Context context;
};

}  // namespace tamias::python
