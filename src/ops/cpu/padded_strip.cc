// Strips of rows: see the header.
#include "ops/cpu/padded_strip.h"

#include <algorithm>
#include <cstddef>

#include "base/parallel.h"
#include "ops/norm.h"

namespace tamias::cpu {
namespace {

int64_t ElementBytes(const TensorView& view) { return static_cast<int64_t>(SizeOf(view.dtype())); }

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
  const int64_t size = ElementBytes(rows);
  const auto* source = static_cast<const std::byte*>(from.raw());
  auto* target = static_cast<std::byte*>(to.raw());
  ParallelForRanges(context, end - begin, 1, [&](int64_t first, int64_t last, int) {
    for (int64_t r = first; r < last; ++r) {
      std::copy_n(source + r * from.stride(0) * size, from.stride(0) * size,
                  target + r * to.stride(0) * size);
    }
  });
}

// Repeats the outermost pixels of the frame's columns and rows [begin, end) to the strip's edges.
void ReplicateEdges(const TensorView& strip, int64_t begin, int64_t end, int64_t left,
                    int64_t right) {
  const int64_t width = strip.dim(1), pixel = strip.dim(2) * ElementBytes(strip);
  const int64_t row_size = width * pixel;
  auto* bytes = static_cast<std::byte*>(strip.raw());
  for (int64_t r = begin; r < end; ++r) {
    std::byte* row = bytes + r * row_size;
    for (int64_t x = 0; x < left; ++x) std::copy_n(row + left * pixel, pixel, row + x * pixel);
    for (int64_t x = width - right; x < width; ++x) {
      std::copy_n(row + (width - right - 1) * pixel, pixel, row + x * pixel);
    }
  }
  for (int64_t r = 0; r < begin; ++r) {
    std::copy_n(bytes + begin * row_size, row_size, bytes + r * row_size);
  }
  for (int64_t r = end; r < strip.dim(0); ++r) {
    std::copy_n(bytes + (end - 1) * row_size, row_size, bytes + r * row_size);
  }
}

// Makes the strip's columns outside [left, width - right) in rows [begin, end), and all other rows,
// zero.
void ZeroEdges(const TensorView& strip, int64_t begin, int64_t end, int64_t left, int64_t right) {
  const int64_t pixel = strip.dim(2) * ElementBytes(strip), row_size = strip.dim(1) * pixel;
  auto* bytes = static_cast<std::byte*>(strip.raw());
  std::fill(bytes, bytes + begin * row_size, std::byte{0});
  std::fill(bytes + end * row_size, bytes + strip.dim(0) * row_size, std::byte{0});
  for (int64_t r = begin; r < end; ++r) {
    std::byte* row = bytes + r * row_size;
    std::fill_n(row, left * pixel, std::byte{0});
    std::fill_n(row + row_size - right * pixel, right * pixel, std::byte{0});
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

void ClearStrip(const TensorView& strip) { ZeroEdges(strip, 0, 0, 0, 0); }

}  // namespace tamias::cpu
