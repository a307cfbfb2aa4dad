// What the tests of GPU kernels share: the fixture (which needs a device), tensors there and
// back, and rounding of references' inputs. The same tests run on the emulator and on a GPU.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/cuda/device.h"
#include "base/cuda/memory.h"
#include "base/cuda/stream.h"
#include "tamias/placement.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"
#include "tests/support/rounding.h"

namespace tamias {

template <typename Fixture>
class OnGpu : public Fixture {
 protected:
  using Fixture::Fixture;
  static constexpr Placement kPlacement = {{DeviceType::kCuda, 0}, DType::kBF16};

  void SetUp() override {
    ASSERT_GT(cuda::DeviceCount(), 0) << "no GPU: tools/gpu_check runs these where there is one";
  }
};
using CudaTest = OnGpu<::testing::Test>;

// A contiguous copy on the stream's device.
inline Tensor ToDevice(cuda::Stream& stream, ConstTensorView host) {
  Tensor device = cuda::DeviceTensor(host.shape(), host.dtype(), stream.device().index);
  cuda::Copy(stream, host, device);
  stream.Synchronize();
  return device;
}

inline Tensor ToHost(cuda::Stream& stream, ConstTensorView device) {
  Tensor host(device.shape(), device.dtype());
  cuda::Copy(stream, device, host);
  stream.Synchronize();
  return host;
}

// Half a unit in the last place, relative: what rounding to the type costs.
inline float RoundingOf(DType dtype) { return dtype == DType::kBF16 ? 0x1p-8f : 0x1p-11f; }

}  // namespace tamias
