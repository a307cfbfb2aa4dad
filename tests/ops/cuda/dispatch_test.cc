// Operations called with a context on a GPU: what the dispatch adds to the kernels.
#include "base/dry_run.h"
#include "ops/biased_attention.h"
#include "ops/conv2d.h"
#include "ops/embedding.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "tamias/device_memory.h"
#include "tamias/error.h"
#include "tests/support/device_operand.h"

namespace tamias {
namespace {

class CudaDispatch : public CudaTest {};

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

TEST_F(CudaDispatch, OperationsTakeTheScratchThatTheyPlan) {
  Context host(1);
  Random random(1);
  const auto layout = Layout::kContiguous;
  {
    Context device(kPlacement, 1);
    const auto operand = [&](const Shape& shape) {
      return MakeOperand(device.stream(), random, shape, DType::kBF16, 0.3f, 0, layout);
    };
    const DeviceOperand input = operand({1, 4, 5, 16}), weight = operand({8, 16, 3, 3});
    const DeviceOperand output = operand({1, 4, 5, 8});
    const Padding padding = {1, 1, 1, 1};
    const auto run = [&](Context& context) {
      Conv2d(context, input.device, weight.device, {}, {.padding = padding}, output.device);
    };
    run(device);
    reference::Conv2d(host, input.host, weight.host, {}, {.padding = padding}, output.host);
    EXPECT_LT(output.Error(device.stream()), Tolerance(DType::kBF16));
    EXPECT_GT(device.workspace().peak_bytes(), 0u);
    EXPECT_EQ(device.workspace().peak_bytes(),
              PlannedWorkspace(device.placement(), device.threads(), run));
  }
  {
    Context device(kPlacement, 1);
    const auto operand = [&](const Shape& shape) {
      return MakeOperand(device.stream(), random, shape, DType::kBF16, 1, 0, layout);
    };
    const DeviceOperand query = operand({2, 3, 20, 24}), key = operand({2, 3, 30, 24});
    const DeviceOperand output = operand({2, 3, 20, 24});
    const auto run = [&](Context& context) {
      BiasedAttention(context, {.query = query.device, .key = key.device, .value = key.device},
                      output.device);
    };
    run(device);
    reference::BiasedAttention(host, {.query = query.host, .key = key.host, .value = key.host},
                               output.host);
    EXPECT_LT(output.Error(device.stream()), 2 * Tolerance(DType::kBF16));
    EXPECT_GT(device.workspace().peak_bytes(), 0u);
    EXPECT_EQ(device.workspace().peak_bytes(),
              PlannedWorkspace(device.placement(), device.threads(), run));
  }
}

TEST_F(CudaDispatch, GroupNormRunsItsTwoHalves) {
  Context host(1), device(kPlacement, 1);
  Random random(1);
  const Shape shape = {2, 3, 4, 16};
  const auto layout = Layout::kContiguous;
  const DeviceOperand input =
      MakeOperand(device.stream(), random, shape, DType::kBF16, 1, 2, layout);
  const DeviceOperand output =
      MakeOperand(device.stream(), random, shape, DType::kBF16, 1, 0, layout);
  GroupNorm(device, input.device, 4, {}, {}, 1e-6f, /*silu=*/true, output.device);
  Tensor gain({2, 16}, DType::kF32), offset({2, 16}, DType::kF32);
  reference::GroupNormStatistics(host, input.host, 4, {}, {}, 1e-6f, gain, offset);
  reference::ScaleShiftChannels(host, input.host, gain, offset, true, output.host);
  EXPECT_LT(output.Error(device.stream()), Tolerance(DType::kBF16));
}

// Ids come from a tokenizer, so they lie in the host's memory.
TEST_F(CudaDispatch, TableLookupChecksIdsAndCopiesThem) {
  Context device(kPlacement, 1);
  Random random(1);
  const Tensor table = random.Normal({3, 8});
  const Tensor on_device = CopyToDevice(device, table.view());
  Tensor ids({2}, DType::kI32), output = TensorOn(kPlacement.device, {2, 8}, DType::kF32);
  ids.data<int32_t>()[0] = 2;
  ids.data<int32_t>()[1] = 0;
  Embedding(device, on_device.view(), ids, output);
  const Tensor rows = CopyToHost(device, output);
  EXPECT_EQ(LargestError(rows.view().Select(0, 0), table.view().Select(0, 2)), 0);
  EXPECT_EQ(LargestError(rows.view().Select(0, 1), table.view().Select(0, 0)), 0);
  ids.data<int32_t>()[1] = 3;
  EXPECT_THROW(Embedding(device, on_device.view(), ids, output), Error);
}

TEST_F(CudaDispatch, WorkspaceLiesOnTheDevice) {
  Context device(kPlacement, 1, 1024);
  const TensorView view = device.workspace().Allocate({8}, DType::kF32);
  EXPECT_EQ(view.device(), kPlacement.device);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(view.raw()) % 256, 0u);
}

TEST_F(CudaDispatch, MirrorsCarryTensorsThereAndBack) {
  Context host(1), device(kPlacement, 1);
  Random random(1);
  Tensor values = random.Normal({4, 5});
  const Tensor before = Tensor::CopyOf(values.view());
  DeviceMirror same(host, values), copy(device, values);
  EXPECT_EQ(same.device().raw(), values.view().raw());
  EXPECT_EQ(copy.device().device(), kPlacement.device);
  copy.Upload(device);
  std::fill_n(values.data<float>(), 20, 0.0f);
  copy.Download(device);
  EXPECT_TRUE(SameBytes(values, before));
}

}  // namespace
}  // namespace tamias
