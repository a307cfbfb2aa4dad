// Loops that the compiler vectorises; conversions on all threads.
#include "io/float_values.h"

#include "base/parallel.h"

namespace tamias {
namespace {

// Elements of one 16- or 32-bit float type whose exponent bits are all ones: NaN or infinity.
template <typename Bits>
bool HasNonFinite(const Bits* values, int64_t count, Bits exponent) {
  Bits found = 0;
  for (int64_t i = 0; i < count; ++i) {
    found |= static_cast<Bits>((values[i] & exponent) == exponent);
  }
  return found != 0;
}

}  // namespace

float ElementOf(const ConstTensorView& contiguous, int64_t i) {
  switch (contiguous.dtype()) {
    case DType::kF16:
      return ToFloat(static_cast<const Float16*>(contiguous.raw())[i]);
    case DType::kBF16:
      return ToFloat(static_cast<const BFloat16*>(contiguous.raw())[i]);
    default:
      return static_cast<const float*>(contiguous.raw())[i];
  }
}

Tensor Converted(const Context& context, ConstTensorView contiguous, DType dtype) {
  Tensor result(contiguous.shape(), dtype);
  constexpr int64_t kGrain = int64_t{1} << 16;  // elements
  ParallelForRanges(context, contiguous.NumElements(), kGrain,
                    [&](int64_t begin, int64_t end, int) {
                      void* values = result.view().raw();
                      for (int64_t i = begin; i < end; ++i) {
                        const float value = ElementOf(contiguous, i);
                        if (dtype == DType::kF16) {
                          static_cast<Float16*>(values)[i] = ToFloat16(value);
                        } else if (dtype == DType::kBF16) {
                          static_cast<BFloat16*>(values)[i] = ToBFloat16(value);
                        } else {
                          static_cast<float*>(values)[i] = value;
                        }
                      }
                    });
  return result;
}

bool HasNonFinite(ConstTensorView contiguous, int64_t begin, int64_t end) {
  switch (contiguous.dtype()) {
    case DType::kF32:
      return HasNonFinite<uint32_t>(static_cast<const uint32_t*>(contiguous.raw()) + begin,
                                    end - begin, 0x7F800000u);
    case DType::kF16:
      return HasNonFinite<uint16_t>(static_cast<const uint16_t*>(contiguous.raw()) + begin,
                                    end - begin, 0x7C00u);
    case DType::kBF16:
      return HasNonFinite<uint16_t>(static_cast<const uint16_t*>(contiguous.raw()) + begin,
                                    end - begin, 0x7F80u);
    default:
      return false;
  }
}

}  // namespace tamias
