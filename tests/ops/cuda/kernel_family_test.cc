#include "ops/cuda/kernel_family.h"

#include "tests/support/errors.h"

namespace tamias {
namespace {

using cuda::ChooseKernelFamily;
using cuda::KernelFamily;

void ExpectRefused(ErrorCode code, std::string_view text, int compute_capability, bool has_sm90a,
                   const char* wanted) {
  ExpectError(code, text, [&] { ChooseKernelFamily(compute_capability, has_sm90a, wanted); });
}

TEST(KernelFamily, FollowsTheGpuAndTheBuild) {
  for (const char* wanted : {static_cast<const char*>(nullptr), ""}) {
    EXPECT_EQ(ChooseKernelFamily(90, true, wanted), KernelFamily::kSm90a);
    EXPECT_EQ(ChooseKernelFamily(90, false, wanted), KernelFamily::kSm80);
    for (const int capability : {80, 86, 89, 100, 120}) {
      EXPECT_EQ(ChooseKernelFamily(capability, true, wanted), KernelFamily::kSm80);
    }
  }
}

TEST(KernelFamily, IsThatOfTheEnvironment) {
  EXPECT_EQ(ChooseKernelFamily(90, true, "sm80"), KernelFamily::kSm80);
  EXPECT_EQ(ChooseKernelFamily(86, false, "sm80"), KernelFamily::kSm80);
  EXPECT_EQ(ChooseKernelFamily(90, true, "sm90a"), KernelFamily::kSm90a);
}

TEST(KernelFamily, RefusesWhatIsNotThere) {
  ExpectRefused(ErrorCode::kInvalidArgument, "TAMIAS_KERNELS: expected sm80 or sm90a, found 'sm90'",
                90, true, "sm90");
  ExpectRefused(ErrorCode::kUnsupported, "TAMIAS_KERNELS: sm90a: this build has no kernels for it",
                90, false, "sm90a");
  ExpectRefused(ErrorCode::kUnsupported,
                "TAMIAS_KERNELS: sm90a: expected a GPU of compute capability 9.0, found 8.6", 86,
                true, "sm90a");
}

}  // namespace
}  // namespace tamias
