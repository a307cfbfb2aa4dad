// A context that Python's threads may share: whoever uses it locks it.
#pragma once

#include <mutex>
#include <string>
#include <string_view>

#include "tamias/context.h"
#include "tamias/error.h"
#include "tamias/placement.h"

namespace tamias::python {

struct SharedContext {
  static constexpr int kMaxThreads = 1024;

  // threads: 0 means one per usable CPU, at most kMaxThreads; dtype: "f32", "bf16". Throws
  // kInvalidArgument.
  SharedContext(int threads, std::string_view dtype)
      : context(PlacementOn({}, DType::kF32, ParseActivationType(dtype)), Checked(threads)) {}

  static int Checked(int threads) {
    if (threads >= 0 && threads <= kMaxThreads) return threads;
    throw Error(ErrorCode::kInvalidArgument, "threads: expected 0 to " +
                                                 std::to_string(kMaxThreads) + ", found " +
                                                 std::to_string(threads));
  }

  std::mutex mutex;
  Context context;
};

}  // namespace tamias::python
