#include "ops/linear.h"

#include <gmock/gmock.h>

#include "ops/cuda/cublas_lt.h"
#include "ops/cuda/linear_plan.h"
#include "tamias/error.h"
#include "tests/support/device_operand.h"

namespace tamias {
namespace {

using ::testing::HasSubstr;

constexpr Device kGpu = {DeviceType::kCuda, 0};

// A plan looks at shapes, strides and addresses only: no memory is behind these views.
TensorView Pretended(const Shape& shape, DType dtype = DType::kBF16, uintptr_t address = 0x10000) {
  return TensorView(reinterpret_cast<void*>(address), dtype, shape, kGpu);
}

TEST(LinearPlan, RowMajorMatricesAreColumnMajorOnesTransposed) {
  const cuda::LinearPlan plan = cuda::PlanLinear(Pretended({6, 40, 64}), Pretended({32, 64}),
                                                 Pretended({32}), Pretended({6, 40, 32}), {});
  EXPECT_EQ(plan.rows, 240);
  EXPECT_EQ(plan.inputs, 64);
  EXPECT_EQ(plan.outputs, 32);
  EXPECT_EQ(plan.batches, 1);
  EXPECT_EQ(plan.input_stride, 64);
  EXPECT_EQ(plan.weight_stride, 64);
  EXPECT_EQ(plan.output_stride, 32);
  EXPECT_TRUE(plan.has_bias);
  EXPECT_EQ(plan.input_alignment, 256);
}

TEST(LinearPlan, StridesBecomeLeadingDimensionsAndBatches) {
  const ConstTensorView input = Pretended({2, 50, 72}).Slice(1, 3, 43).Slice(2, 4, 68);
  const ConstTensorView weight = Pretended({32, 100}).Slice(1, 8, 72);
  const TensorView output = Pretended({2, 40, 96}, DType::kF32).Slice(2, 32, 64);
  const cuda::LinearPlan plan = cuda::PlanLinear(input, weight, {}, output, {});
  EXPECT_EQ(plan.rows, 40);
  EXPECT_EQ(plan.batches, 2);
  EXPECT_EQ(plan.input_stride, 72);
  EXPECT_EQ(plan.input_batch_stride, 50 * 72);
  EXPECT_EQ(plan.weight_stride, 100);
  EXPECT_EQ(plan.output_stride, 96);
  EXPECT_EQ(plan.output_batch_stride, 40 * 96);
  EXPECT_EQ(plan.input_alignment, 8);  // 3 * 72 + 4 elements of two bytes from the start
  EXPECT_EQ(plan.output_type, DType::kF32);
}

TEST(LinearPlan, ASingleRowNeedsNoStride) {
  const cuda::LinearPlan plan =
      cuda::PlanLinear(Pretended({64}), Pretended({32, 64}), {}, Pretended({32}), {});
  EXPECT_EQ(plan.rows, 1);
  EXPECT_EQ(plan.input_stride, 64);
  EXPECT_EQ(plan.output_stride, 32);
}

TEST(LinearPlan, ActivationsThatAreNoEpilogueComeAfterwards) {
  const auto plan = [](Activation activation) {
    return cuda::PlanLinear(Pretended({8, 64}), Pretended({32, 64}), {}, Pretended({8, 32}),
                            {.activation = activation});
  };
  for (const Activation fused : {Activation::kRelu, Activation::kGeluTanh}) {
    EXPECT_EQ(plan(fused).fused, fused);
    EXPECT_EQ(plan(fused).after, Activation::kNone);
  }
  for (const Activation after : {Activation::kGeluErf, Activation::kSilu, Activation::kTanh}) {
    EXPECT_EQ(plan(after).fused, Activation::kNone);
    EXPECT_EQ(plan(after).after, after);
  }
}

TEST(LinearPlan, IsTheKeyOfAnAlgorithm) {
  const auto plan = [](uintptr_t address, int64_t rows, bool bias) {
    return cuda::PlanLinear(Pretended({rows, 64}, DType::kBF16, address), Pretended({32, 64}),
                            bias ? Pretended({32}) : TensorView(), Pretended({rows, 32}), {});
  };
  const cuda::LinearPlan first = plan(0x10000, 8, true);
  EXPECT_TRUE(first == plan(0x20000, 8, true));   // other memory, as well aligned
  EXPECT_FALSE(first == plan(0x20010, 8, true));  // only to 16 bytes
  EXPECT_FALSE(first == plan(0x10000, 9, true));
  EXPECT_FALSE(first == plan(0x10000, 8, false));
  EXPECT_TRUE((first < plan(0x10000, 9, true)) != (plan(0x10000, 9, true) < first));
}

TEST(LinearPlan, ErrorsNameTheArgument) {
  const auto message = [](const TensorView& input, const TensorView& weight, const TensorView& bias,
                          const TensorView& output, LinearOptions options = {}) {
    return ErrorOf([&] { cuda::PlanLinear(input, weight, bias, output, options); });
  };
  const TensorView input = Pretended({8, 64}), weight = Pretended({32, 64});
  const TensorView output = Pretended({8, 32});
  EXPECT_EQ(message(input, weight, {}, output), "");
  EXPECT_THAT(message(Pretended({8, 64}, DType::kF32), weight, {}, output),
              HasSubstr("input: expected f16 or bf16"));
  EXPECT_THAT(message(input, Pretended({32, 64}, DType::kF16), {}, output),
              HasSubstr("weight: expected bf16, found f16"));
  EXPECT_THAT(message(input, weight, Pretended({32}, DType::kF32), output),
              HasSubstr("bias: expected bf16, found f32"));
  EXPECT_THAT(
      message(input, weight, {}, output, {.activation = Activation::kSilu, .accumulate = true}),
      HasSubstr("expected no activation"));
  const TensorView apart = Pretended({4, 4, 4, 128}).Slice(1, 0, 3).Slice(2, 0, 3).Slice(3, 0, 64);
  EXPECT_THAT(message(apart, weight, {}, Pretended({4, 3, 3, 32})),
              HasSubstr("rows along at most two strides"));
}

class CudaLinear : public CudaTest {};

TEST_F(CudaLinear, RefusesOutputsOfOtherShapes) {
  Context device(kPlacement, 1);
  try {
    Linear(device, Pretended({8, 64}), Pretended({32, 64}), {}, Pretended({8, 33}));
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("linear: output: expected shape [8, 32]"));
  }
}

TEST_F(CudaLinear, MatchesReferenceOverRandomShapes) {
  cuda::Stream stream;
  cuda::CublasLt library(stream.device());
  Tensor scratch =
      cuda::DeviceTensor({static_cast<int64_t>(cuda::CublasLt::kScratchBytes)}, DType::kU8, 0);
  constexpr Activation kActivations[] = {Activation::kNone, Activation::kRelu,
                                         Activation::kGeluTanh, Activation::kSilu};
  Context context(1);
  for (uint64_t seed = 0; seed < 24; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const DType dtype = kHalfTypes[random.Integer(0, 1)];
    const DType output_type = random.Coin() ? dtype : DType::kF32;
    const int64_t batch = random.Integer(1, 2), rows = random.Integer(1, 200);
    const int64_t inputs = 8 * random.Integer(1, 40), outputs = 8 * random.Integer(1, 40);
    const float scale = 1 / std::sqrt(static_cast<float>(inputs));
    const DeviceOperand input = MakeOperand(stream, random, {batch, rows, inputs}, dtype);
    const DeviceOperand weight = MakeOperand(stream, random, {outputs, inputs}, dtype, scale);
    const DeviceOperand bias = MakeOperand(stream, random, {outputs}, output_type);
    const DeviceOperand output = MakeOperand(stream, random, {batch, rows, outputs}, output_type);
    const bool has_bias = random.Coin(), accumulates = random.Coin();
    const LinearOptions options{
        .activation = accumulates ? Activation::kNone : kActivations[random.Integer(0, 3)],
        .accumulate = accumulates};
    const TensorView none;
    cuda::Linear(library, stream, input.device, weight.device, has_bias ? bias.device : none,
                 scratch, output.device, options);
    reference::Linear(context, input.host, weight.host, has_bias ? bias.host : none, output.host,
                      options);
    EXPECT_LT(output.Error(stream), 2 * Tolerance(output_type));
  }
}

TEST_F(CudaLinear, OfFewRowsMatchesReferenceForAnyTypes) {
  cuda::Stream stream;
  constexpr Activation kActivations[] = {Activation::kNone, Activation::kRelu, Activation::kSilu};
  Context context(1);
  for (uint64_t seed = 0; seed < 24; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const int64_t batch = random.Integer(1, 2), rows = random.Integer(1, 2);
    const int64_t inputs = 8 * random.Integer(1, 80), outputs = random.Integer(1, 70);
    const float scale = 1 / std::sqrt(static_cast<float>(inputs));
    const DeviceOperand input =
        MakeOperand(stream, random, {batch, rows, inputs}, RandomFloatType(random));
    const DeviceOperand weight =
        MakeOperand(stream, random, {outputs, inputs}, RandomFloatType(random), scale);
    const DeviceOperand bias = MakeOperand(stream, random, {outputs}, RandomFloatType(random));
    const DType output_type = RandomFloatType(random);
    const DeviceOperand output = MakeOperand(stream, random, {batch, rows, outputs}, output_type);
    const TensorView none;
    const bool has_bias = random.Coin();
    const LinearOptions options{.activation = kActivations[random.Integer(0, 2)],
                                .accumulate = random.Coin()};
    cuda::FewRowsLinear(stream, input.device, weight.device, has_bias ? bias.device : none,
                        output.device, options);
    reference::Linear(context, input.host, weight.host, has_bias ? bias.host : none, output.host,
                      options);
    EXPECT_LT(output.Error(stream), 2 * Tolerance(output_type));
  }
}

// What it takes of the workspace shows which it is: a product of cuBLASLt takes scratch.
TEST_F(CudaLinear, TakesNoScratchForFewRowsOfWholeVectors) {
  const auto scratch_of = [](int64_t rows, int64_t inputs) {
    Context planning = Context::Planning(kPlacement, 1);
    const auto of = [&](const Shape& shape, DType dtype) {
      return TensorView::WithoutMemory(shape, dtype, kGpu);
    };
    Linear(planning, of({rows, inputs}, DType::kF32), of({32, inputs}, DType::kBF16),
           of({32}, DType::kBF16), of({rows, 32}, DType::kF32));
    return planning.workspace().peak_bytes();
  };
  EXPECT_EQ(scratch_of(1, 64), 0);
  EXPECT_EQ(scratch_of(cuda::kFewRows, 64), 0);
  EXPECT_GT(scratch_of(cuda::kFewRows + 1, 64), 0);
  EXPECT_GT(scratch_of(1, 60), 0);
}

}  // namespace
}  // namespace tamias
