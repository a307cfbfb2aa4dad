// Entry of the top-k selections: checks, then the device's implementation.
#include "ops/top_k.h"

#include "ops/check_tensor.h"
#include "ops/dispatch.h"
#include "ops/mask.h"

namespace tamias {
namespace {

void CheckTopK(const Context& context, std::string_view operation, const ConstTensorView& scores,
               int64_t k, const ConstTensorView& mask) {
  CheckTensor(context, operation, "scores", scores, DType::kF32, {-1, -1});
  CheckUnitStride(operation, "scores", scores);
  CheckList(context, operation, "mask", mask, DType::kU8,
            {scores.dim(0), MaskBytes(scores.dim(1))});
  CheckAtLeast(operation, "k", k, 0);
}

}  // namespace

void TopKMask(Context& context, ConstTensorView scores, int64_t k, TensorView mask) {
  CheckTopK(context, "top-k", scores, k, mask);
  DispatchWithCpuScratch(
      context, [&] { cpu::TopKMask(context, scores, k, mask); },
      [&](cuda::Stream& stream) { cuda::TopKMask(stream, scores, k, mask); });
}

void ApproximateTopKMask(Context& context, ConstTensorView scores, int64_t k, int64_t sample_size,
                         uint64_t seed, TensorView mask) {
  CheckTopK(context, "approximate top-k", scores, k, mask);
  CheckAtLeast("approximate top-k", "sample_size", sample_size, 1);
  DispatchWithCpuScratch(
      context, [&] { cpu::ApproximateTopKMask(context, scores, k, sample_size, seed, mask); },
      [&](cuda::Stream& stream) {
        cuda::ApproximateTopKMask(stream, scores, k, sample_size, seed, mask);
      });
}

}  // namespace tamias
