// Entry of the mask operations: checks, then the device's implementation.
#include "ops/mask.h"

#include "base/check.h"
#include "ops/check_tensor.h"
#include "ops/dispatch.h"

namespace tamias {
namespace {

void CheckMask(const Context& context, std::string_view operation, const ConstTensorView& mask,
               int64_t n) {
  CheckAtLeast(operation, "n", n, 0);
  CheckList(context, operation, "mask", mask, DType::kU8, {-1, MaskBytes(n)});
}

}  // namespace

void RandomMask(Context& context, double probability, uint64_t seed, TensorView mask, int64_t n) {
  CheckMask(context, "random mask", mask, n);
  if (!(probability >= 0 && probability <= 1)) {
    Fail(ErrorCode::kInvalidArgument, "random mask: probability: expected 0 to 1, found {}",
         probability);
  }
  Dispatch(
      context, [&] { cpu::RandomMask(context, probability, seed, mask, n); },
      [&](cuda::Stream& stream) { cuda::RandomMask(stream, probability, seed, mask, n); });
}

void MaskToIndices(Context& context, ConstTensorView mask, int64_t n, TensorView indices,
                   TensorView counts) {
  constexpr std::string_view kName = "mask to indices";
  CheckMask(context, kName, mask, n);
  CheckTensor(context, kName, "indices", indices, DType::kI32, {mask.dim(0), -1});
  CheckTensor(context, kName, "counts", counts, DType::kI32, {mask.dim(0)});
  CheckUnitStride(kName, "indices", indices);
  CheckUnitStride(kName, "counts", counts);
  Dispatch(
      context, [&] { cpu::MaskToIndices(context, mask, n, indices, counts); },
      [&](cuda::Stream& stream) {
        cuda::MaskToIndices(stream, mask, n, indices, counts, /*overflow=*/{});
      });
}

void CountMask(Context& context, ConstTensorView mask, TensorView counts) {
  CheckList(context, "count mask", "mask", mask, DType::kU8, {-1, -1});
  CheckTensor(context, "count mask", "counts", counts, DType::kI32, {mask.dim(0)});
  CheckUnitStride("count mask", "counts", counts);
  Dispatch(
      context, [&] { cpu::CountMask(context, mask, counts); },
      [&](cuda::Stream& stream) { cuda::CountMask(stream, mask, counts); });
}

void OrMask(Context& context, ConstTensorView source, int64_t limit, TensorView mask) {
  CheckList(context, "or mask", "mask", mask, DType::kU8, {-1, -1});
  CheckList(context, "or mask", "source", source, DType::kU8, {-1, mask.dim(1)});
  if (source.dim(0) == 0 && mask.dim(0) > 0) {
    Fail(ErrorCode::kInvalidArgument, "or mask: source: expected at least one row, found none");
  }
  CheckAtLeast("or mask", "limit", limit, 0);
  Dispatch(
      context, [&] { cpu::OrMask(context, source, limit, mask); },
      [&](cuda::Stream& stream) { cuda::OrMask(stream, source, limit, mask); });
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
  uint8_t* bytes = mask.host_data<uint8_t>() + row * mask.dim(1);
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
