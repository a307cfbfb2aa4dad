// How an operation reaches its device's form, once its arguments are checked and its scratch is
// taken: the CPU's, the GPU's on the context's queue, or none when planning.
#pragma once

#include "tamias/context.h"

namespace tamias {

template <typename OnCpu, typename OnGpu>
void Dispatch(const Context& context, const OnCpu& on_cpu, const OnGpu& on_gpu) {
  if (context.IsPlanning()) return;
  if (context.IsOnGpu()) {
    on_gpu(context.stream());
  } else {
    on_cpu();
  }
}

// The same for an operation whose form on the CPU takes scratch itself, as its kernels want it: it
// is called with a planning context, too, and returns once it has taken what it takes.
template <typename OnCpu, typename OnGpu>
void DispatchWithCpuScratch(const Context& context, const OnCpu& on_cpu, const OnGpu& on_gpu) {
  if (context.IsPlanning() && !context.IsOnGpu()) return on_cpu();
  Dispatch(context, on_cpu, on_gpu);
}

}  // namespace tamias
