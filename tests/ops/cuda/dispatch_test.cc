// Operations called with a context on a GPU: what the dispatch adds to the kernels.
#include <gmock/gmock.h>

#include "base/device_memory.h"
#include "ops/biased_attention.h"
#include "ops/conv2d.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "tests/ops/cuda/device_operand.h"

namespace tamias {
namespace {

using testing::DeviceOperand;
using ::testing::HasSubstr;
using testing::Random;

class CudaDispatch : public testing::CudaTest {
 protected:
  static constexpr Placement kPlacement = {{DeviceType::kCuda, 0}, DType::kBF16};
};

TEST_F(CudaDispatch, DenseLayersTakeInputsAndBiasesOfOtherTypes) {
  Context host(1), device(kPlacement, 1);
  Random random(1);
  const DeviceOperand input = MakeOperand(device.stream(), random, {3, 5, 32}, DType::kF32);
  const DeviceOperand weight = MakeOperand(device.stream(), random, {24, 32}, DType::kBF16, 0.2f);
  const DeviceOperand bias = MakeOperand(device.stream(), random, {24}, DType::kBF16);
  const DeviceOperand output = MakeOperand(device.stream(), random, {3, 5, 24}, DType::kF32);
  Linear(device, input.device, weight.device, bias.device, output.device);
  reference::Linear(host, input.host, weight.host, bias.host, output.host);
  // The input is rounded to bf16, 2^-9 of an element; 32 of them add up.
  EXPECT_LT(output.Error(device.stream()), 1e-2f);
}

TEST_F(CudaDispatch, OperationsWithoutAFormForGpusSaySo) {
  Context device(kPlacement, 1);
  const auto message = [](const auto& call) {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(message([&] { BiasedAttention(device, {}, {}); }),
            "biased attention: runs on the CPU only, found cuda:0");
  EXPECT_THAT(message([&] { Conv2d(device, {}, {}, {}, {}, {}); }), HasSubstr("conv2d: "));
  EXPECT_THAT(message([&] { ScaleShiftChannels(device, {}, {}, {}, false, {}); }),
              HasSubstr("scale shift channels: "));
}

TEST_F(CudaDispatch, WorkspaceLiesOnTheDevice) {
  Context device(kPlacement, 1, 1024);
  const TensorView view = device.workspace().Allocate({8});
  EXPECT_EQ(view.device(), kPlacement.device);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(view.raw()) % 256, 0u);
}

TEST_F(CudaDispatch, MirrorsCarryTensorsThereAndBack) {
  const Context host(1), device(kPlacement, 1);
  Random random(1);
  Tensor values = random.Normal({4, 5});
  const Tensor before = Tensor::CopyOf(values.view());
  DeviceMirror same(host, values), copy(device, values);
  EXPECT_EQ(same.device().raw(), values.view().raw());
  EXPECT_EQ(copy.device().device(), kPlacement.device);
  copy.Upload(device);
  std::fill_n(values.data<float>(), 20, 0.0f);
  copy.Download(device);
  EXPECT_TRUE(testing::SameBytes(values, before));
}

}  // namespace
}  // namespace tamias
