#include "ops/attention_rest.h"

#include "tamias/error.h"
#include "tests/support/device_operand.h"

namespace tamias {
namespace {

// Minus infinity as a number, so that it equals itself when errors are measured.
Tensor Finite(Tensor tensor) {
  for (int64_t i = 0; i < tensor.NumElements(); ++i) {
    tensor.data<float>()[i] = std::max(tensor.data<float>()[i], -1e9f);
  }
  return tensor;
}

class CudaAttentionRest : public CudaTest {};

TEST_F(CudaAttentionRest, MatchesReferenceOverRandomShapes) {
  cuda::Stream stream;
  Context context(1);
  for (uint64_t seed = 0; seed < 15; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const Shape shape = {random.Integer(1, 2), random.Integer(1, 3), random.Integer(1, 60),
                         8 * random.Integer(1, 16)};
    const Shape rows = {shape[0], shape[1], shape[2]};
    const DeviceOperand output = MakeOperand(stream, random, shape, RandomFloatType(random));
    const DeviceOperand rest = MakeOperand(stream, random, shape, RandomFloatType(random));
    // Selections with 30 % of the weight and more, all of it, and none.
    const Tensor lse = random.Normal(rows);
    Tensor selected = Tensor::CopyOf(lse.view());
    for (int64_t i = 0; i < selected.NumElements(); ++i) {
      selected.data<float>()[i] -= i % 7 == 0 ? 0 : 0.2f + 0.1f * static_cast<float>(i % 10);
      if (i % 11 == 0) selected.data<float>()[i] = -INFINITY;
    }
    Tensor rest_lse = ToDevice(stream, Tensor::Zeros(rows, DType::kF32));
    Tensor expected_lse(rows, DType::kF32);
    const Tensor device_lse = ToDevice(stream, lse), device_selected = ToDevice(stream, selected);
    cuda::AttentionRest(stream, {output.device, device_lse, device_selected}, rest.device,
                        rest_lse);
    reference::AttentionRest(context, {output.host, lse, selected}, rest.host, expected_lse);
    EXPECT_LT(rest.Error(stream), Tolerance(rest.device.dtype()));
    EXPECT_LT(LargestError(Finite(ToHost(stream, rest_lse)).view(),
                           Finite(std::move(expected_lse)).view()),
              1e-5f);
  }
}

TEST_F(CudaAttentionRest, RefusesWrongShapes) {
  Context device(kPlacement, 1);
  cuda::Stream& stream = device.stream();
  Tensor rest = ToDevice(stream, Tensor::Zeros({1, 2, 3, 8}, DType::kF32).view());
  Tensor lse = ToDevice(stream, Tensor::Zeros({1, 2, 3}, DType::kF32).view());
  EXPECT_THROW(AttentionRest(device, {lse, lse, lse}, rest, lse), Error);
  EXPECT_THROW(AttentionRest(device, {rest, rest, lse}, rest, lse), Error);
}

}  // namespace
}  // namespace tamias
