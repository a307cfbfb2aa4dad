// Weights in a GPU's memory.
#include "tamias/weights.h"

#include "io/quantise.h"
#include "io/safetensors.h"
#include "tamias/device_memory.h"
#include "tests/support/device_operand.h"
#include "tests/support/fixture.h"
#include "tests/support/weights_folder.h"

namespace tamias {
namespace {

class CudaWeights : public CudaTest {};

TEST_F(CudaWeights, FloatsTakeTheTypeOfTheActivationsAndIntegersAreNoWeights) {
  Random random(1);
  const Tensor f32 = random.Normal({70, 1000}), bf16 = Rounded(f32.view(), DType::kBF16);
  const Tensor indices = Tensor::Zeros({5}, DType::kI32);
  const NamedTensor tensors[] = {{"a.f32", f32}, {"a.bf16", bf16}, {"a.indices", indices}};
  const WeightsFolder folder;
  WriteSafetensors(folder.path() / "model.safetensors", tensors);
  const Weights host = Weights::Open(folder.path());
  EXPECT_EQ(host.MainDType(), DType::kF32);

  const Context context(PlacementOn({DeviceType::kCuda, 0}, DType::kF32));
  const Weights device = host.CopyToDevice(context);
  const auto there = [&](const char* name, const Shape& shape) {
    const ConstTensorView view = device.Sub("a").Get(name, shape);
    EXPECT_EQ(view.device(), context.device());
    return CopyToHost(context, view);
  };
  EXPECT_TRUE(SameBytes(there("f32", {70, 1000}), bf16));
  EXPECT_TRUE(SameBytes(there("bf16", {70, 1000}), bf16));
  EXPECT_EQ(ErrorOf([&] { device.Get("a.indices"); }), ErrorOf([&] { host.Get("a.indices"); }));
  EXPECT_EQ(host.DeviceBytes(context.placement()), size_t{2 * 2 * 70 * 1000 + 5 * 4});
  EXPECT_EQ(host.Get("a.f32").device(), Device());
  EXPECT_EQ(ErrorOf([&] { device.Get("a.f32", {1}); }), ErrorOf([&] { host.Get("a.f32", {1}); }));
}

TEST_F(CudaWeights, MatricesOfBlocksTake8BitsOnRequestAndComeInTurnAsSuch) {
  Random random(2);
  const Tensor matrices[] = {random.Normal({48, 80}), random.Normal({48, 80})};
  const Tensor bias = random.Normal({48});
  const NamedTensor tensors[] = {{"blocks.0.to_q.weight", matrices[0]},
                                 {"blocks.1.to_q.weight", matrices[1]},
                                 {"blocks.1.to_q.bias", bias}};
  const WeightsFolder folder;
  WriteSafetensors(folder.path() / "model.safetensors", tensors);
  const Weights host = Weights::Open(folder.path());
  Placement placement = kPlacement;
  placement.weight_dtype = DType::kF8E4M3;
  Context context(placement, 1);
  const Weights device = host.CopyToDevice(context, {"blocks.1"});
  for (int64_t i = 0; i < 2; ++i) {
    const WeightTurn turn(device, "blocks", i, context);
    const ConstTensorView found = device.Sub("blocks", i).Get("to_q.weight", {48, 80});
    const ConstTensorView scales(found.row_scales(), DType::kF32, {48}, context.device());
    const std::optional<QuantisedMatrix> expected = Quantise(Context(1), matrices[i]);
    EXPECT_TRUE(SameBytes(CopyToHost(context, found), expected->codes)) << i;
    EXPECT_TRUE(SameBytes(CopyToHost(context, scales), expected->scales)) << i;
  }
}

}  // namespace
}  // namespace tamias
