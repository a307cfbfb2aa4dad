// How an operation reaches its device's form, once its arguments are checked and its scratch is
// taken: the CPU's, the GPU's on the context's queue, or none when planning.
#pragma once

#include "base/context.h"

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

}  // namespace tamias
