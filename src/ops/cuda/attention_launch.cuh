// The choice of the attention kernel's instantiation by type, head dimension and rows.
#pragma once

#include <cstdint>
#include <limits>

#include "base/check.h"
#include "base/cuda/stream.h"
#include "ops/cuda/attention_arguments.cuh"
#include "ops/cuda/attention_kernel.cuh"
#include "ops/cuda/launch.cuh"

namespace tamias::cuda {

constexpr int kManyWarps = 12;  // 192 query rows: the published group
constexpr int kFewWarps = 4;    // 64: small groups, and calls that would leave GPUs idle

// A launch whose instantiation is chosen below: kernel choices and the arguments by type.
template <AttentionKeys kKeyChoice, AttentionByProduct kByProduct>
struct AttentionLaunch {
  const char* name;
  Stream& stream;
  int64_t heads;  // B * H
  bool causal;

  template <typename Traits>
  void Run(const AttentionArguments<typename Traits::T>& arguments) const {
    const int64_t blocks = arguments.schedule.Blocks(heads);
    if (blocks > std::numeric_limits<int32_t>::max()) {
      Fail(ErrorCode::kUnsupported, "{}: {} blocks are too many for one launch", name, blocks);
    }
    Launch(causal ? &AttentionKernel<Traits, kKeyChoice, kByProduct, AttentionMask::kCausal>
                  : &AttentionKernel<Traits, kKeyChoice, kByProduct, AttentionMask::kNone>,
           LaunchShape{.name = name,
                       .grid = static_cast<unsigned>(blocks),
                       .block = Traits::kThreads,
                       .shared_bytes = size_t{SharedBytes<Traits, kByProduct>()}},
           stream, arguments);
  }

  template <typename T>
  void Run(const AttentionArguments<T>& arguments, int64_t head_dim) const {
    const bool few = arguments.schedule.tile_rows <= 16 * kFewWarps;
    if (head_dim == 64) {
      few ? Run<AttentionTraits<T, 64, kFewWarps>>(arguments)
          : Run<AttentionTraits<T, 64, kManyWarps>>(arguments);
    } else {
      few ? Run<AttentionTraits<T, 128, kFewWarps>>(arguments)
          : Run<AttentionTraits<T, 128, kManyWarps>>(arguments);
    }
  }
};

// Rows of a block for groups of this size.
inline int32_t TileRowsFor(int64_t group_size) {
  return 16 * (group_size <= 16 * kFewWarps ? kFewWarps : kManyWarps);
}

}  // namespace tamias::cuda
