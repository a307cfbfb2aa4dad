#include "ops/biased_attention.h"

#include <gmock/gmock.h>

#include "tamias/error.h"
#include "tests/support/device_operand.h"

namespace tamias {
namespace {

class CudaBiasedAttention : public CudaTest {
 protected:
  // In blocks of at most `rows` queries.
  void Run(const BiasedAttentionInputs& inputs, TensorView output, int64_t rows = INT64_MAX) {
    const size_t bytes = cuda::BiasedAttentionScratchBytes(
        output.dim(0) * output.dim(1), std::min(rows, output.dim(2)), inputs.key.dim(2));
    Tensor scratch =
        cuda::DeviceTensor({static_cast<int64_t>(bytes)}, DType::kU8, stream_.device().index);
    cuda::BiasedAttention(stream_, inputs, scratch, output);
  }

  cuda::Stream stream_;
  Context context_{1};
};

// Weights are rounded before the second product: each to half a unit, and of values of size one
// they make a mean. Scores are exact to fp32.
float Tolerance(const DeviceOperand& output, DType dtype) {
  return Tolerance(output.device.dtype()) + 2 * RoundingOf(dtype);
}

TEST_F(CudaBiasedAttention, MatchesReferenceWithBiasAndCausalMask) {
  for (uint64_t seed = 0; seed < 24; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const int64_t batch = random.Integer(1, 2), heads = random.Integer(1, 3);
    const int64_t longest = seed % 6 == 0 ? 300 : 60;
    const int64_t queries = random.Integer(1, longest), dim = 8 * random.Integer(1, 9);
    const bool causal = random.Coin();
    const int64_t keys = causal ? queries : random.Integer(1, longest);
    const DType dtype = kHalfTypes[seed % 2];
    const DeviceOperand query = MakeOperand(stream_, random, {batch, heads, queries, dim}, dtype);
    const DeviceOperand key = MakeOperand(stream_, random, {batch, heads, keys, dim}, dtype);
    const DeviceOperand value = MakeOperand(stream_, random, {batch, heads, keys, dim}, dtype);
    DeviceOperand bias = MakeOperand(stream_, random, {random.Coin() ? 1 : heads, queries, keys},
                                     RandomFloatType(random), 2, 0, Layout::kContiguous);
    if (random.Coin()) bias.host = bias.device = {};
    const DeviceOperand output =
        MakeOperand(stream_, random, {batch, heads, queries, dim}, RandomFloatType(random));
    BiasedAttentionInputs inputs{.query = query.device,
                                 .key = key.device,
                                 .value = value.device,
                                 .bias = bias.device,
                                 .scale = 0.2f,
                                 .causal = causal};
    Run(inputs, output.device);
    inputs = {query.host, key.host, value.host, bias.host, 0.2f, causal};
    reference::BiasedAttention(context_, inputs, output.host);
    EXPECT_LT(output.Error(stream_), Tolerance(output, dtype));
  }
}

// The one head of FLUX's autoencoder, and blocks of 128 query rows.
TEST_F(CudaBiasedAttention, WorksThroughBlocksOfQueriesWithWideHeads) {
  Random random(7);
  const auto make = [&](int64_t rows) {
    return MakeOperand(stream_, random, {1, 1, rows, 512}, DType::kBF16, 0.3f);
  };
  const DeviceOperand query = make(300), key = make(90), value = make(90);
  const DeviceOperand output = make(300);
  BiasedAttentionInputs inputs{
      .query = query.device, .key = key.device, .value = value.device, .scale = 0.1f};
  Run(inputs, output.device, 128);
  inputs = {query.host, key.host, value.host, {}, 0.1f, false};
  reference::BiasedAttention(context_, inputs, output.host);
  EXPECT_LT(output.Error(stream_), Tolerance(output, DType::kBF16));
  // 140 heads of 4,000 keys: 119 rows would fill 2^26 scores, a block has at least 128.
  EXPECT_EQ(cuda::BiasedAttentionScratchBytes(140, 1000, 4000), 140u * 128 * 4000 * 6);
}

TEST_F(CudaBiasedAttention, HeadsMayShareAKeyAndValueHead) {
  Random random(8);
  const Shape one = {2, 1, 17, 16}, all = {2, 3, 17, 16}, strides = {17 * 16, 0, 16, 1};
  const auto layout = Layout::kContiguous;
  const DeviceOperand query = MakeOperand(stream_, random, all, DType::kF16, 1, 0, layout);
  const DeviceOperand key = MakeOperand(stream_, random, one, DType::kF16, 1, 0, layout);
  const DeviceOperand output = MakeOperand(stream_, random, all, DType::kF32, 1, 0, layout);
  const auto shared = [&](const TensorView& view) {
    return ConstTensorView(view.raw(), view.dtype(), all, strides, view.device());
  };
  BiasedAttentionInputs inputs{.query = query.device,
                               .key = shared(key.device),
                               .value = shared(key.device),
                               .scale = 0.4f,
                               .causal = true};
  Run(inputs, output.device);
  inputs = {query.host, shared(key.host), shared(key.host), {}, 0.4f, true};
  reference::BiasedAttention(context_, inputs, output.host);
  EXPECT_LT(output.Error(stream_), Tolerance(output, DType::kF16));
}

TEST_F(CudaBiasedAttention, ErrorsNameTheArgument) {
  const auto zeros = [&](const Shape& shape, DType dtype) {
    return ToDevice(stream_, Tensor::Zeros(shape, dtype).view());
  };
  Tensor x = zeros({1, 2, 5, 8}, DType::kF16);
  const Tensor wide = zeros({1, 2, 5, 8}, DType::kF32), odd = zeros({1, 2, 6, 8}, DType::kF16);
  const Tensor bias = zeros({3, 5, 5}, DType::kF16);
  Context device(kPlacement, 1);
  const auto message = [&](const BiasedAttentionInputs& inputs) {
    return ErrorOf([&] { BiasedAttention(device, inputs, x); });
  };
  using ::testing::HasSubstr;
  EXPECT_THAT(message({.query = wide, .key = wide, .value = wide}),
              HasSubstr("biased attention: query: expected f16 or bf16"));
  EXPECT_THAT(message({.query = x, .key = odd, .value = odd, .causal = true}),
              HasSubstr("biased attention: key: expected as many keys as queries (5)"));
  EXPECT_THAT(message({.query = x, .key = x, .value = x, .bias = bias}),
              HasSubstr("biased attention: bias: expected 1 or 2 heads, found 3"));
}

}  // namespace
}  // namespace tamias
