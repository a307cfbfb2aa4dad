// Where and with what an operation runs: the device, the number of threads and scratch memory.
// One context belongs to one generation and is passed to every operation; there are no globals.
#pragma once

#include <algorithm>
#include <cstddef>
#include <thread>

#include "base/device.h"
#include "base/workspace.h"

namespace tamias {

class Context {
 public:
  // threads <= 0: one per hardware thread. workspace_bytes are reserved at once.
  explicit Context(int threads = 0, size_t workspace_bytes = 0)
      : threads_(threads > 0 ? threads
                             : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()))),
        workspace_(workspace_bytes) {}

  Device device() const { return {}; }
  int threads() const { return threads_; }
  Workspace& workspace() { return workspace_; }

 private:
  int threads_;
  Workspace workspace_;
};

}  // namespace tamias
