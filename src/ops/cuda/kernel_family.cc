// The choice of kernels: see the header.
#include "ops/cuda/kernel_family.h"

#include <cstdlib>
#include <string_view>

#include "base/check.h"
#include "ops/cuda/sm90a.h"

namespace tamias::cuda {
namespace {

constexpr int kHopper = 90;

void CheckHasSm90a(int compute_capability, bool has_sm90a) {
  if (!has_sm90a) {
    Fail(ErrorCode::kUnsupported, "TAMIAS_KERNELS: sm90a: this build has no kernels for it");
  }
  if (compute_capability != kHopper) {
    Fail(ErrorCode::kUnsupported,
         "TAMIAS_KERNELS: sm90a: expected a GPU of compute capability 9.0, found {}.{}",
         compute_capability / 10, compute_capability % 10);
  }
}

}  // namespace

KernelFamily ChooseKernelFamily(int compute_capability, bool has_sm90a, const char* wanted) {
  const std::string_view name = wanted == nullptr ? "" : wanted;
  if (name.empty()) {
    return has_sm90a && compute_capability == kHopper ? KernelFamily::kSm90a : KernelFamily::kSm80;
  }
  if (name == "sm80") return KernelFamily::kSm80;
  if (name != "sm90a") {
    Fail(ErrorCode::kInvalidArgument, "TAMIAS_KERNELS: expected sm80 or sm90a, found '{}'", name);
  }
  CheckHasSm90a(compute_capability, has_sm90a);
  return KernelFamily::kSm90a;
}

KernelFamily KernelFamilyOf(const Stream& stream) {
  return ChooseKernelFamily(stream.properties().compute_capability, sm90a::kIsBuilt,
                            std::getenv("TAMIAS_KERNELS"));
}

}  // namespace tamias::cuda
