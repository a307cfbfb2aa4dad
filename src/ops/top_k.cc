// Entry of the top-k selections: checks, then the device's implementation.
#include "ops/top_k.h"

#include "ops/check_tensor.h"
#include "ops/mask.h"

namespace tamias {
namespace {

void CheckTopK(std::string_view operation, const ConstTensorView& scores, int64_t k,
               const ConstTensorView& mask) {
  CheckTensor(operation, "scores", scores, DType::kF32, {-1, -1});
  CheckUnitStride(operation, "scores", scores);
  CheckTensor(operation, "mask", mask, DType::kU8, {scores.dim(0), MaskBytes(scores.dim(1))});
  CheckContiguous(operation, "mask", mask);
  if (k < 0) {
    Fail(ErrorCode::kInvalidArgument, "{}: k: expected at least 0, found {}", operation, k);
  }
}

}  // namespace

void TopKMask(Context& context, ConstTensorView scores, int64_t k, TensorView mask) {
  if (context.IsOnGpu()) return cuda::TopKMask(context.stream(), scores, k, mask);
  CheckTopK("top-k", scores, k, mask);
  cpu::TopKMask(context, scores, k, mask);
}

void ApproximateTopKMask(Context& context, ConstTensorView scores, int64_t k, int64_t sample_size,
                         uint64_t seed, TensorView mask) {
  if (context.IsOnGpu()) {
    return cuda::ApproximateTopKMask(context.stream(), scores, k, sample_size, seed, mask);
  }
  CheckTopK("approximate top-k", scores, k, mask);
  if (sample_size < 1) {
    Fail(ErrorCode::kInvalidArgument,
         "approximate top-k: sample_size: expected at least 1, found {}", sample_size);
  }
  cpu::ApproximateTopKMask(context, scores, k, sample_size, seed, mask);
}

}  // namespace tamias
