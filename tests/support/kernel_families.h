// Tests that hold the kernels of each family (ops/cuda/kernel_family.h) to the same: on a GPU the
// environment chooses, on the emulator its compute capability.
#pragma once

#include <cstdlib>
#include <string>

#include "ops/cuda/kernel_family.h"
#include "tests/support/device_test.h"

#ifdef TAMIAS_CUDA_EMULATION
#include "tests/cuda_emulator/device.h"
#endif

namespace tamias {

// The streams of a test get the kernels of the parameter, where GPU and build have them.
class KernelFamilyTest : public OnGpu<::testing::TestWithParam<cuda::KernelFamily>> {
 protected:
  void SetUp() override {
    OnGpu::SetUp();
    if (HasFatalFailure()) return;
#ifdef TAMIAS_CUDA_EMULATION
    before_ = cuda_emulator::ComputeCapability();
    if (GetParam() == cuda::KernelFamily::kSm90a) cuda_emulator::SetComputeCapability(90);
#else
    const bool is_sm90a = GetParam() == cuda::KernelFamily::kSm90a;
    unsetenv("TAMIAS_KERNELS");
    if (is_sm90a && cuda::KernelFamilyOf(cuda::Stream()) != GetParam()) {
      GTEST_SKIP() << "no kernels for sm90a on this GPU or in this build";
    }
    setenv("TAMIAS_KERNELS", is_sm90a ? "sm90a" : "sm80", 1);
#endif
    ASSERT_EQ(cuda::KernelFamilyOf(cuda::Stream()), GetParam());
  }
  void TearDown() override {
#ifdef TAMIAS_CUDA_EMULATION
    cuda_emulator::SetComputeCapability(before_);
#else
    unsetenv("TAMIAS_KERNELS");
#endif
  }

 private:
#ifdef TAMIAS_CUDA_EMULATION
  int before_ = 0;
#endif
};

inline std::string NameOfFamily(const testing::TestParamInfo<cuda::KernelFamily>& info) {
  return info.param == cuda::KernelFamily::kSm90a ? "sm90a" : "sm80";
}

#define TAMIAS_FOR_KERNEL_FAMILIES(Fixture)                                                        \
  INSTANTIATE_TEST_SUITE_P(Family, Fixture,                                                        \
                           testing::Values(cuda::KernelFamily::kSm80, cuda::KernelFamily::kSm90a), \
                           NameOfFamily)

}  // namespace tamias
