// The upsampling convolution with less than a third of its products. In space, each of the four
// output pixels of an input pixel sees only 2 x 2 different input pixels, so the nine weights of a
// frame of the kernel collapse to four sums: output (2y + a, 2x + b) is a 2 x 2 convolution whose
// rows are {w0, w1 + w2} for a = 0 and {w0 + w1, w2} for a = 1, and columns alike. In time, the
// frames of the kernel that meet one and the same input frame are added up. The input goes through
// strips of rows with a frame of padding; the four results are interleaved while they are in the
// cache.
#include "ops/upsample_conv3d.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/parallel.h"
#include "ops/cpu/elements.h"
#include "ops/cpu/onednn.h"
#include "ops/cpu/onednn_conv2d.h"
#include "ops/cpu/padded_strip.h"
#include "ops/cpu/widen.h"

namespace tamias {
namespace {

constexpr int64_t kStripBytes = int64_t{2} << 20;  // of one of the four results
constexpr int64_t kLeastRows = 4;
constexpr int kPhases = 4;

// Frames [begin, end) of the kernel, which meet input frame `source` in output frame `target`.
struct Meeting {
  int64_t source, target, begin, end;
};

// All meetings, by source; those of a target come in the order of the kernel's frames.
std::vector<Meeting> MeetingsOf(int64_t frames, int64_t kernel_frames, bool doubles_frames) {
  std::vector<Meeting> meetings;
  for (int64_t t = 0; t < UpsampledFrames(frames, doubles_frames); ++t) {
    for (int64_t k = 0; k < kernel_frames; ++k) {
      const int64_t enlarged = std::max<int64_t>(t + k - (kernel_frames - 1), 0);
      const int64_t source = doubles_frames ? (enlarged + 1) / 2 : enlarged;
      if (k > 0 && meetings.back().source == source) {
        ++meetings.back().end;
      } else {
        meetings.push_back({source, t, k, k + 1});
      }
    }
  }
  std::stable_sort(meetings.begin(), meetings.end(),
                   [](const Meeting& a, const Meeting& b) { return a.source < b.source; });
  return meetings;
}

// The different ranges of the kernel's frames among the meetings.
std::vector<std::pair<int64_t, int64_t>> RangesOf(const std::vector<Meeting>& meetings) {
  std::vector<std::pair<int64_t, int64_t>> ranges;
  for (const Meeting& meeting : meetings) ranges.emplace_back(meeting.begin, meeting.end);
  std::sort(ranges.begin(), ranges.end());
  ranges.erase(std::unique(ranges.begin(), ranges.end()), ranges.end());
  return ranges;
}

// out [O, C, 2, 2]: the weights of phase (a, b) summed over frames [begin, end) of weight [O, C,
// kt, 3, 3].
void CollapseWeights(const ConstTensorView& weight, int64_t begin, int64_t end, int a, int b,
                     float* out) {
  const int64_t kernels = weight.dim(0) * weight.dim(1), frames = weight.dim(2);
  for (int64_t n = 0; n < kernels; ++n, out += 4) {
    std::fill_n(out, 4, 0.0f);
    for (int64_t k = begin; k < end; ++k) {
      const float* w = weight.data<float>() + (n * frames + k) * 9;
      for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) out[(i + 1 - a) / 2 * 2 + (j + 1 - b) / 2] += w[i * 3 + j];
      }
    }
  }
}

// How the input is cut into strips of rows, all but the last of one height.
struct StripPlan {
  StripPlan(const Shape& input, size_t element_size, int64_t outputs) {
    const int64_t row_bytes = std::max<int64_t>(
        1, input[3] * std::max(input[4], outputs) * static_cast<int64_t>(element_size));
    const int64_t most = std::max(kLeastRows, kStripBytes / row_bytes);
    const int64_t strips = (input[2] + most - 1) / most;
    rows = (input[2] + strips - 1) / strips;
    last_rows = input[2] - (input[2] - 1) / rows * rows;
  }
  int64_t rows, last_rows;
};

// The 2 x 2 kernel over rows + 1 of a strip's framed rows: rows x (W + 1) results.
cpu::OnednnConv2d PhaseKernel(const Shape& input, const Shape& weight, const cpu::ConvTypes& types,
                              int64_t rows) {
  return cpu::OnednnConv2d(rows + 1, input[3] + 2, {weight[0], weight[1], 2, 2}, types, {},
                           /*has_bias=*/true, /*accumulate=*/false);
}

// The weights of one range of the kernel's frames, as the kernels want them.
using PackedPhases = std::array<void*, kPhases>;

PackedPhases PackPhases(Context& context, const cpu::OnednnConv2d& kernel,
                        const ConstTensorView& weight, int64_t begin, int64_t end) {
  PackedPhases packed{};
  for (void*& phase : packed) {
    phase = context.workspace()
                .Allocate({static_cast<int64_t>(kernel.weight_bytes())}, DType::kU8)
                .raw();
  }
  Workspace::Scope scope(context.workspace());
  const TensorView collapsed =
      context.workspace().Allocate({weight.dim(0), weight.dim(1), 2, 2}, DType::kF32);
  for (int phase = 0; phase < kPhases; ++phase) {
    if (!context.IsPlanning()) {
      CollapseWeights(weight, begin, end, phase / 2, phase % 2, collapsed.data<float>());
    }
    kernel.PackWeights(context, collapsed, packed[static_cast<size_t>(phase)]);
  }
  return packed;
}

// frame[2 (first + r) + a, 2x + b] (+)= result[r, x + b] for r < rows. result [rows, W + 1, O];
// both of T.
template <typename T>
void Interleave(Context& context, const T* result, int64_t rows, int a, int b, int64_t first,
                bool adds, const TensorView& frame) {
  const int64_t width = frame.dim(1) / 2, channels = frame.dim(2);
  ParallelForRanges(context, rows, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const T* from = result + (r * (width + 1) + b) * channels;
      T* to = frame.data<T>() + ((2 * (first + r) + a) * frame.dim(1) + b) * channels;
      for (int64_t x = 0; x < width; ++x, from += channels, to += 2 * channels) {
        if (!adds) {
          std::copy_n(from, channels, to);
          continue;
        }
        for (int64_t c = 0; c < channels; ++c) {
          cpu::SetFloat(ToFloat(to[c]) + ToFloat(from[c]), to[c]);
        }
      }
    }
  });
}

class Upsampler {
 public:
  // weight f32, input in the type that is multiplied, output as in UpsampleConv3d. Takes workspace
  // for its lifetime.
  Upsampler(Context& context, const ConstTensorView& input, const ConstTensorView& weight,
            const float* bias, const UpsampleConv3dOptions& options, const TensorView& output)
      : context_(context),
        input_(input),
        output_(output),
        padding_(options.padding),
        plan_(input.shape(), SizeOf(input.dtype()), weight.dim(0)),
        kernel_(PhaseKernel(input.shape(), weight.shape(), Types(), plan_.rows)),
        last_kernel_(PhaseKernel(input.shape(), weight.shape(), Types(), plan_.last_rows)),
        meetings_(MeetingsOf(input.dim(1), weight.dim(2), options.doubles_frames)),
        ranges_(RangesOf(meetings_)) {
    packed_ = Pack(kernel_, weight);
    last_packed_ = kernel_.SharesWeights(last_kernel_) ? packed_ : Pack(last_kernel_, weight);
    zeros_ = context.workspace().Allocate({weight.dim(0)}, DType::kF32).data<float>();
    if (!context.IsPlanning()) std::fill_n(zeros_, weight.dim(0), 0.0f);
    bias_ = bias == nullptr ? zeros_ : bias;
    strip_ = context.workspace().Allocate({plan_.rows + 2, input.dim(3) + 2, input.dim(4)},
                                          input.dtype());
    result_ =
        context.workspace().Allocate({plan_.rows, input.dim(3) + 1, weight.dim(0)}, output.dtype());
  }

  void Run() {
    for (int64_t b = 0; b < input_.dim(0); ++b) {
      for (int64_t y = 0; y < input_.dim(2); y += plan_.rows) RunStrip(b, y);
    }
  }

 private:
  cpu::ConvTypes Types() const { return {.operands = input_.dtype(), .output = output_.dtype()}; }

  std::vector<PackedPhases> Pack(const cpu::OnednnConv2d& kernel, const ConstTensorView& weight) {
    std::vector<PackedPhases> packed;
    for (const auto& [begin, end] : ranges_) {
      packed.push_back(PackPhases(context_, kernel, weight, begin, end));
    }
    return packed;
  }

  // Input rows from y on of film b.
  void RunStrip(int64_t b, int64_t y) {
    const bool last = y + plan_.rows >= input_.dim(2);
    const int64_t rows = last ? plan_.last_rows : plan_.rows;
    int64_t in_strip = -1;  // the frame
    for (const Meeting& meeting : meetings_) {
      if (meeting.source != in_strip) {
        cpu::FillStrip(context_, {.pixels = input_.Select(0, b).Select(0, meeting.source)}, y - 1,
                       1, 1, padding_, strip_.Slice(0, 0, rows + 2));
        in_strip = meeting.source;
      }
      const auto range =
          std::find(ranges_.begin(), ranges_.end(), std::pair(meeting.begin, meeting.end));
      const auto index = static_cast<size_t>(range - ranges_.begin());
      RunPhases(last ? last_kernel_ : kernel_, (last ? last_packed_ : packed_)[index], rows, y,
                meeting.begin > 0, output_.Select(0, b).Select(0, meeting.target));
    }
  }

  void RunPhases(const cpu::OnednnConv2d& kernel, const PackedPhases& packed, int64_t rows,
                 int64_t y, bool adds, const TensorView& frame) {
    for (int phase = 0; phase < kPhases; ++phase) {
      const int a = phase / 2;
      kernel.Run(context_, strip_.Slice(0, a, strip_.dim(0)).raw(),
                 packed[static_cast<size_t>(phase)], adds ? zeros_ : bias_, result_.raw());
      if (context_.IsPlanning()) continue;
      cpu::WithElementType(frame.dtype(), [&](auto element) {
        Interleave(context_, result_.data<decltype(element)>(), rows, a, phase % 2, y, adds, frame);
      });
    }
  }

  Context& context_;
  ConstTensorView input_;
  TensorView output_;
  PaddingMode padding_;
  StripPlan plan_;
  cpu::OnednnConv2d kernel_, last_kernel_;
  std::vector<Meeting> meetings_;
  std::vector<std::pair<int64_t, int64_t>> ranges_;
  std::vector<PackedPhases> packed_, last_packed_;  // by range
  float* zeros_ = nullptr;                          // in place of the bias where results are added
  const float* bias_ = nullptr;
  TensorView strip_, result_;
};

}  // namespace

namespace cpu {

void UpsampleConv3d(Context& context, ConstTensorView input, ConstTensorView weight,
                    ConstTensorView bias, const UpsampleConv3dOptions& options, TensorView output) {
  Workspace::Scope scope(context.workspace());
  const OnednnThreads threads(context);
  const ConstTensorView weights(WidenedData(context, weight), DType::kF32, weight.shape());
  const float* biases = WidenedData(context, bias);
  const DType type = OnednnProductType(context);
  const ConstTensorView frames = InType(context, input, type);
  const auto upsample = [&](const TensorView& to) {
    WithOnednnErrors("upsampling convolution",
                     [&] { Upsampler(context, frames, weights, biases, options, to).Run(); });
  };
  if (type == DType::kBF16) return upsample(output);
  WithWideOutput(context, output, /*keeps=*/false, upsample);
}

}  // namespace cpu

}  // namespace tamias
