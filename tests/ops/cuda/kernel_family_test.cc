#include "ops/cuda/kernel_family.h"

#include <gtest/gtest.h>

#include <string>

#include "base/check.h"

namespace tamias {
namespace {

using cuda::ChooseKernelFamily;
using cuda::KernelFamily;

std::string ErrorOf(ErrorCode code, int compute_capability, bool has_sm90a, const char* wanted) {
  try {
    ChooseKernelFamily(compute_capability, has_sm90a, wanted);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
  return "no error";
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
  EXPECT_EQ(ErrorOf(ErrorCode::kInvalidArgument, 90, true, "sm90"),
            "TAMIAS_KERNELS: expected sm80 or sm90a, found 'sm90'");
  EXPECT_EQ(ErrorOf(ErrorCode::kUnsupported, 90, false, "sm90a"),
            "TAMIAS_KERNELS: sm90a: this build has no kernels for it");
  EXPECT_EQ(ErrorOf(ErrorCode::kUnsupported, 86, true, "sm90a"),
            "TAMIAS_KERNELS: sm90a: expected a GPU of compute capability 9.0, found 8.6");
}

}  // namespace
}  // namespace tamias
