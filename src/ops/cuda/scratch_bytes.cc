// The sizes of scratch memory on a GPU: see the header.
#include "ops/cuda/scratch_bytes.h"

#include <algorithm>

#include "ops/biased_attention.h"
#include "ops/conv2d.h"
#include "ops/conv3d.h"
#include "ops/cuda/convolution.h"
#include "ops/norm.h"
#include "ops/upsample_conv2d.h"
#include "ops/upsample_conv3d.h"

namespace tamias::cuda {

size_t ScratchBytes(const Shape& shape, DType dtype) {
  constexpr size_t kAlignment = 256;
  const size_t bytes = static_cast<size_t>(shape.NumElements()) * SizeOf(dtype);
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

int64_t WholeVectors(int64_t elements) {
  constexpr int64_t kVectorElements = 8;
  return (elements + kVectorElements - 1) / kVectorElements * kVectorElements;
}

// 2^26 scores over all heads, so that the second product has a tile for every multiprocessor at the
// 16,384 pixels of FLUX's autoencoder.
int64_t ScoredRows(int64_t heads, int64_t queries, int64_t keys) {
  constexpr int64_t kMostScores = int64_t{1} << 26, kTile = 128;
  const int64_t rows = kMostScores / std::max<int64_t>(heads * WholeVectors(keys), 1);
  return std::min(queries, std::max<int64_t>(rows / kTile, 1) * kTile);
}

size_t ScoreBytes(int64_t heads, int64_t rows, int64_t keys) {
  const Shape shape = {heads, rows, WholeVectors(keys)};
  return ScratchBytes(shape, DType::kF32) + ScratchBytes(shape, DType::kBF16);
}

size_t BiasedAttentionScratchBytes(int64_t heads, int64_t queries, int64_t keys) {
  return ScoreBytes(heads, ScoredRows(heads, queries, keys), keys);
}

int64_t PixelsPerChunk(int64_t channels) {
  constexpr int64_t kElements = 32768;  // 16 vectors a thread
  return std::max<int64_t>(1, kElements / std::max<int64_t>(1, channels));
}

size_t GroupNormStatisticsScratchBytes(const Shape& input, int64_t groups) {
  const int64_t pixels = input[1] * input[2], chunk = PixelsPerChunk(input[3]);
  return ScratchBytes({input[0], (pixels + chunk - 1) / chunk, groups, 2}, DType::kF32);
}

size_t ConvolutionScratchBytes(const Shape& input, const ConstTensorView& weight,
                               bool scales_input) {
  Shape packed = weight.shape(), copied = input;
  packed[1] = WholeVectors(packed[1]);
  size_t bytes = ScratchBytes(packed, DType::kBF16);
  if (input.rank() == 0) return bytes;
  const int last = input.rank() - 1;
  copied[last] = WholeVectors(copied[last]);
  if (scales_input || copied != input) bytes += ScratchBytes(copied, DType::kBF16);
  return bytes;
}

size_t Conv2dScratchBytes(const Shape& input, const ConstTensorView& weight, bool scales_input) {
  return ConvolutionScratchBytes(input, weight, scales_input);
}

size_t Conv3dScratchBytes(const Shape& input, const ConstTensorView& weight, bool scales_input) {
  return ConvolutionScratchBytes(input, weight, scales_input);
}

size_t UpsampleConv2dScratchBytes(const ConstTensorView& weight) {
  return ConvolutionScratchBytes({}, weight, /*scales_input=*/false);
}

size_t UpsampleConv3dScratchBytes(const ConstTensorView& weight) {
  return ConvolutionScratchBytes({}, weight, /*scales_input=*/false);
}

}  // namespace tamias::cuda
