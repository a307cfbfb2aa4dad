// Strips of rows: see the header.
#include "ops/cpu/padded_strip.h"

#include <algorithm>

#include "base/parallel.h"
#include "ops/norm.h"

namespace tamias::cpu {
namespace {

// Rows [begin, end) of the frame into the columns of `rows` from `left` on.
void ReadRows(Context& context, const Frame& frame, int64_t begin, int64_t end, int64_t left,
              const TensorView& rows) {
  const ConstTensorView from = frame.pixels.Slice(0, begin, end);
  const TensorView to = rows.Slice(1, left, left + from.dim(1));
  if (!frame.gain.empty()) {
    return cpu::ScaleShiftChannels(context, from.SplitAxis(0, 1, end - begin), frame.gain,
                                   frame.offset, frame.silu, to.SplitAxis(0, 1, end - begin));
  }
  if (context.IsPlanning()) return;
  ParallelForRanges(context, end - begin, 1, [&](int64_t first, int64_t last, int) {
    for (int64_t r = first; r < last; ++r) {
      std::copy_n(from.data<float>() + r * from.stride(0), from.stride(0),
                  to.data<float>() + r * to.stride(0));
    }
  });
}

// Repeats the outermost pixels of the frame's columns and rows [begin, end) to the strip's edges.
void ReplicateEdges(const TensorView& strip, int64_t begin, int64_t end, int64_t left,
                    int64_t right) {
  const int64_t width = strip.dim(1), channels = strip.dim(2), row_size = width * channels;
  float* values = strip.data<float>();
  for (int64_t r = begin; r < end; ++r) {
    float* row = values + r * row_size;
    for (int64_t x = 0; x < left; ++x) {
      std::copy_n(row + left * channels, channels, row + x * channels);
    }
    for (int64_t x = width - right; x < width; ++x) {
      std::copy_n(row + (width - right - 1) * channels, channels, row + x * channels);
    }
  }
  for (int64_t r = 0; r < begin; ++r) {
    std::copy_n(values + begin * row_size, row_size, values + r * row_size);
  }
  for (int64_t r = end; r < strip.dim(0); ++r) {
    std::copy_n(values + (end - 1) * row_size, row_size, values + r * row_size);
  }
}

// Makes the strip's columns outside [left, width - right) in rows [begin, end), and all other rows,
// zero.
void ZeroEdges(const TensorView& strip, int64_t begin, int64_t end, int64_t left, int64_t right) {
  const int64_t channels = strip.dim(2), row_size = strip.dim(1) * channels;
  float* values = strip.data<float>();
  std::fill(values, values + begin * row_size, 0.0f);
  std::fill(values + end * row_size, values + strip.dim(0) * row_size, 0.0f);
  for (int64_t r = begin; r < end; ++r) {
    float* row = values + r * row_size;
    std::fill_n(row, left * channels, 0.0f);
    std::fill_n(row + row_size - right * channels, right * channels, 0.0f);
  }
}

}  // namespace

void FillStrip(Context& context, const Frame& frame, int64_t first, int64_t left, int64_t right,
               PaddingMode mode, const TensorView& strip) {
  const int64_t begin = std::clamp<int64_t>(-first, 0, strip.dim(0));
  const int64_t end = std::clamp<int64_t>(frame.pixels.dim(0) - first, begin, strip.dim(0));
  if (begin < end) {
    ReadRows(context, frame, first + begin, first + end, left, strip.Slice(0, begin, end));
  }
  if (context.IsPlanning()) return;
  const auto fill_edges = mode == PaddingMode::kReplicate ? ReplicateEdges : ZeroEdges;
  fill_edges(strip, begin, end, left, right);
}

}  // namespace tamias::cpu
