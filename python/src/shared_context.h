// A context that Python's threads may share: whoever uses it locks it.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "tamias/context.h"
#include "tamias/device.h"
#include "tamias/error.h"
#include "tamias/placement.h"

namespace tamias::python {

struct SharedContext {
  static constexpr int kMaxThreads = 1024;

  // threads: 0 means one per usable CPU, at most kMaxThreads; dtype, of the activations: "f32",
  // "bf16", on a GPU "f16" or "bf16"; device: as ParseDevice. Throws kInvalidArgument, and as
  // PlacementOn and Context.
  SharedContext(int threads, std::string_view dtype, std::string_view device)
      : context(PlacementOf(dtype, ParseDevice(device)), Checked(threads)) {}

  // work(context), with the context to itself: on a GPU in the caller's queue, by the number that
  // DLPack gives it (1: the default one; else a cudaStream_t); the CPU has none.
  template <typename Work>
  auto With(uintptr_t stream, const Work& work) {
    const std::lock_guard lock(mutex);
    std::optional<StreamScope> scope;
    if (context.IsOnGpu()) scope.emplace(context, reinterpret_cast<CUstream_st*>(stream));
    return work(context);
  }

  // Waits for what was enqueued.
  void Synchronize() {
    const std::lock_guard lock(mutex);
    context.Synchronize();
  }

  static int Checked(int threads) {
    if (threads >= 0 && threads <= kMaxThreads) return threads;
    throw Error(ErrorCode::kInvalidArgument, "threads: expected 0 to " +
                                                 std::to_string(kMaxThreads) + ", found " +
                                                 std::to_string(threads));
  }

  static Placement PlacementOf(std::string_view dtype, Device device) {
    if (dtype == Name(DType::kF16) && device.type == DeviceType::kCuda) {
      return PlacementOn(device, DType::kF16);
    }
    return PlacementOn(device, DType::kF32, ParseActivationType(dtype));
  }

  std::mutex mutex;
  Context context;
};

}  // namespace tamias::python
