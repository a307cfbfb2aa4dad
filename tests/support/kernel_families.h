// Tests of operations that have several families of kernels (ops/cuda/kernel_family.h) run once for
// each: the emulator is a GPU of the family's compute capability, a GPU runs those that it has.
#pragma once

#include <cstdlib>
#include <string>
#include <vector>

#include "ops/cuda/kernel_family.h"
#include "ops/cuda/sm90a.h"
#include "tests/support/device_test.h"
#ifdef TAMIAS_CUDA_EMULATION
#include "tests/cuda_emulator/device.h"
#endif

namespace tamias {

inline std::vector<cuda::KernelFamily> KernelFamiliesHere() {
  using cuda::KernelFamily;
#ifndef TAMIAS_CUDA_EMULATION
  const int capability = cuda::DeviceCount() == 0 ? 0 : cuda::PropertiesOf(0).compute_capability;
  if (cuda::ChooseKernelFamily(capability, cuda::sm90a::kIsBuilt, nullptr) == KernelFamily::kSm80) {
    return {KernelFamily::kSm80};
  }
#endif
  return {KernelFamily::kSm80, KernelFamily::kSm90a};
}

class KernelFamilyTest : public OnGpu<::testing::TestWithParam<cuda::KernelFamily>> {
 protected:
  bool IsSm90a() const { return GetParam() == cuda::KernelFamily::kSm90a; }

  void SetUp() override {
    OnGpu::SetUp();
#ifdef TAMIAS_CUDA_EMULATION
    if (IsSm90a()) cuda_emulator::SetComputeCapability(90);
#endif
    setenv("TAMIAS_KERNELS", IsSm90a() ? "sm90a" : "sm80", 1);
  }
  void TearDown() override {
    unsetenv("TAMIAS_KERNELS");
#ifdef TAMIAS_CUDA_EMULATION
    cuda_emulator::SetComputeCapability(capability_);
#endif
  }

 private:
#ifdef TAMIAS_CUDA_EMULATION
  int capability_ = cuda_emulator::ComputeCapability();
#endif
};

inline std::string NameOfFamily(const ::testing::TestParamInfo<cuda::KernelFamily>& info) {
  return info.param == cuda::KernelFamily::kSm80 ? "Sm80" : "Sm90a";
}

}  // namespace tamias
