// Entry of the mask operations: checks, then the device's implementation.
#include "ops/mask.h"

#include "base/device_memory.h"
#include "ops/check_tensor.h"

namespace tamias {
namespace {

void CheckMask(std::string_view operation, const ConstTensorView& mask, int64_t n) {
  if (n < 0) {
    Fail(ErrorCode::kInvalidArgument, "{}: n: expected at least 0, found {}", operation, n);
  }
  CheckTensor(operation, "mask", mask, DType::kU8, {-1, MaskBytes(n)});
  CheckContiguous(operation, "mask", mask);
}

}  // namespace

void RandomMask(Context& context, double probability, uint64_t seed, TensorView mask, int64_t n) {
  if (context.IsOnGpu()) return cuda::RandomMask(context.stream(), probability, seed, mask, n);
  CheckMask("random mask", mask, n);
  if (!(probability >= 0 && probability <= 1)) {
    Fail(ErrorCode::kInvalidArgument, "random mask: probability: expected 0 to 1, found {}",
         probability);
  }
  cpu::RandomMask(context, probability, seed, mask, n);
}

void MaskToIndices(Context& context, ConstTensorView mask, int64_t n, TensorView indices,
                   TensorView counts) {
  if (context.IsOnGpu()) {
    Workspace::Scope scope(context.workspace());
    const TensorView overflow = context.workspace().Allocate({1}, DType::kI32);
    Zero(context, overflow);
    return cuda::MaskToIndices(context.stream(), mask, n, indices, counts, overflow);
  }
  CheckMask("mask to indices", mask, n);
  CheckTensor("mask to indices", "indices", indices, DType::kI32, {mask.dim(0), -1});
  CheckTensor("mask to indices", "counts", counts, DType::kI32, {mask.dim(0)});
  CheckUnitStride("mask to indices", "indices", indices);
  CheckUnitStride("mask to indices", "counts", counts);
  cpu::MaskToIndices(context, mask, n, indices, counts);
}

void CountMask(Context& context, ConstTensorView mask, TensorView counts) {
  if (context.IsOnGpu()) return cuda::CountMask(context.stream(), mask, counts);
  CheckTensor("count mask", "mask", mask, DType::kU8, {-1, -1});
  CheckContiguous("count mask", "mask", mask);
  CheckTensor("count mask", "counts", counts, DType::kI32, {mask.dim(0)});
  CheckUnitStride("count mask", "counts", counts);
  cpu::CountMask(context, mask, counts);
}

void OrMask(Context& context, ConstTensorView source, int64_t limit, TensorView mask) {
  if (context.IsOnGpu()) return cuda::OrMask(context.stream(), source, limit, mask);
  CheckTensor("or mask", "mask", mask, DType::kU8, {-1, -1});
  CheckContiguous("or mask", "mask", mask);
  CheckTensor("or mask", "source", source, DType::kU8, {-1, mask.dim(1)});
  CheckContiguous("or mask", "source", source);
  if (source.dim(0) == 0 && mask.dim(0) > 0) {
    Fail(ErrorCode::kInvalidArgument, "or mask: source: expected at least one row, found none");
  }
  if (limit < 0) {
    Fail(ErrorCode::kInvalidArgument, "or mask: limit: expected at least 0, found {}", limit);
  }
  cpu::OrMask(context, source, limit, mask);
}

void SetMaskRange(TensorView mask, int64_t row, int64_t begin, int64_t end) {
  CheckTensor("set mask range", "mask", mask, DType::kU8, {-1, -1});
  CheckContiguous("set mask range", "mask", mask);
  if (row < 0 || row >= mask.dim(0) || begin < 0 || begin > end || end > mask.dim(1) * 8) {
    Fail(ErrorCode::kInvalidArgument,
         "set mask range: range: expected columns within a mask of shape {}, found row {}, [{}, "
         "{})",
         mask.shape().ToString(), row, begin, end);
  }
  uint8_t* bytes = mask.data<uint8_t>() + row * mask.dim(1);
  for (int64_t j = begin; j < end;) {
    if (j % 8 == 0 && j + 8 <= end) {
      bytes[j / 8] = 0xFF;
      j += 8;
    } else {
      bytes[j / 8] = static_cast<uint8_t>(bytes[j / 8] | (1u << (j % 8)));
      ++j;
    }
  }
}

}  // namespace tamias
