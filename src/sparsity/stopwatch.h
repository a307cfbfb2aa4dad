// Adds the wall-clock seconds of a scope to a counter.
#pragma once

#include <chrono>

#include "tamias/context.h"

namespace tamias {

// On a GPU nothing is added: a scope enqueues its work and ends before it is done, and waiting for
// it would keep the queue empty.
class Stopwatch {
 public:
  Stopwatch(const Context& context, double& seconds)
      : runs_(!context.IsOnGpu()), seconds_(seconds), start_(Clock::now()) {}
  ~Stopwatch() {
    if (runs_) seconds_ += std::chrono::duration<double>(Clock::now() - start_).count();
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  bool runs_;
  double& seconds_;
  Clock::time_point start_;
};

}  // namespace tamias
