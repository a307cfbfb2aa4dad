// Data-parallel loops over OpenMP threads. The first exception thrown by any iteration is rethrown
// on the calling thread after the loop; the remaining iterations are skipped.
#pragma once

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>

#include "tamias/context.h"

namespace tamias {

// body(index, thread) for index in [0, count), handed out one by one (for uneven work: largest
// first).
template <typename Body>
void ParallelForDynamic(const Context& context, int64_t count, const Body& body) {
  if (count <= 0) return;
  const int threads = static_cast<int>(std::min<int64_t>(context.threads(), count));
  if (threads == 1) {
    for (int64_t i = 0; i < count; ++i) body(i, 0);
    return;
  }
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr error;
#pragma omp parallel num_threads(threads)
  {
    const int thread = omp_get_thread_num();
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) {
      if (failed.load(std::memory_order_relaxed)) break;
      try {
        body(i, thread);
      } catch (...) {
        if (!failed.exchange(true)) error = std::current_exception();
      }
    }
  }
  if (error) std::rethrow_exception(error);
}

// body(begin, end, thread): [0, count) cut into one contiguous range per thread (for even work);
// ranges are multiples of `grain` except the last, and at most ceil(count / grain) threads run.
template <typename Body>
void ParallelForRanges(const Context& context, int64_t count, int64_t grain, const Body& body) {
  if (count <= 0) return;
  const int64_t grains = (count + grain - 1) / grain;
  const int64_t parts = std::min<int64_t>(context.threads(), grains);
  ParallelForDynamic(context, parts, [&](int64_t part, int thread) {
    const int64_t begin = grains * part / parts * grain;
    const int64_t end = std::min(count, grains * (part + 1) / parts * grain);
    if (begin < end) body(begin, end, thread);
  });
}

// memcpy on all threads, for gigabytes: reading a mapped file, too, is faster by several.
inline void ParallelCopy(const Context& context, const void* from, int64_t bytes, void* to) {
  constexpr int64_t kGrain = int64_t{1} << 20;  // worth waking a thread for
  ParallelForRanges(context, bytes, kGrain, [&](int64_t begin, int64_t end, int) {
    std::memcpy(static_cast<std::byte*>(to) + begin, static_cast<const std::byte*>(from) + begin,
                static_cast<size_t>(end - begin));
  });
}

}  // namespace tamias
