#include "ops/linear.h"

#include <gmock/gmock.h>

#include <cstdlib>

#include "base/dry_run.h"
#include "ops/cuda/cublas_lt.h"
#include "tamias/error.h"
#include "tests/support/bfloat16.h"
#include "tests/support/operands.h"
#include "tests/support/simd_targets.h"

namespace tamias {
namespace {

constexpr Activation kActivations[] = {
    Activation::kNone, Activation::kRelu,      Activation::kGeluTanh, Activation::kGeluErf,
    Activation::kSilu, Activation::kQuickGelu, Activation::kTanh};

TEST(Linear, MatchesReference) {
  ForEachSimdTarget([] {
    for (uint64_t seed = 0; seed < 40; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed);
      Context context(static_cast<int>(random.Integer(1, 3)));
      const int64_t batch = random.Integer(1, 3), rows = random.Integer(1, 40);
      const int64_t inputs = random.Integer(1, 100), outputs = random.Integer(1, 100);
      const Operand input = RandomOperand(random, {batch, rows, inputs});
      const Operand weight =
          RandomOperand(random, {outputs, inputs}, 1 / std::sqrt(static_cast<float>(inputs)),
                        RandomWeightType(random));
      Operand bias = RandomOperand(random, {outputs}, 1, RandomWeightType(random));
      if (random.Coin()) bias.view = {};
      const Operand actual = RandomOperand(random, {batch, rows, outputs});
      const Operand expected = CopyOf(actual);
      const LinearOptions options = {.activation = kActivations[random.Integer(0, 5)],
                                     .accumulate = random.Coin()};
      Linear(context, input.view, weight.view, bias.view, actual.view, options);
      reference::Linear(context, input.view, weight.view, bias.view, expected.view, options);
      EXPECT_LT(LargestError(actual, expected), 1e-5f);  // a sum of up to 100 products
    }
  });
}

// Input and output of either type, weights of any.
TEST(Linear, OfBFloat16MatchesReference) {
  ForEachSimdTarget([] {
    for (uint64_t seed = 0; seed < 40; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed);
      Context context(BFloat16OnCpu(), static_cast<int>(random.Integer(1, 3)));
      const int64_t batch = random.Integer(1, 3), rows = random.Integer(1, 40);
      const int64_t inputs = random.Integer(1, 100), outputs = random.Integer(1, 100);
      Tensor input = random.Normal({batch, rows, inputs + 1});
      RoundToBFloat16(input);
      const Tensor narrow_input = InBFloat16(input);
      const Operand weight =
          RandomOperand(random, {outputs, inputs}, 1 / std::sqrt(static_cast<float>(inputs)),
                        seed < 20 ? DType::kBF16 : RandomWeightType(random));
      Operand bias = RandomOperand(random, {outputs}, 1, RandomWeightType(random));
      if (random.Coin()) bias.view = {};
      Tensor expected = random.Normal({batch, rows, outputs + 1});
      RoundToBFloat16(expected);
      const bool gives_floats = random.Coin();
      Tensor found = gives_floats ? ToFloat32(expected) : InBFloat16(expected);
      const LinearOptions options = {.activation = kActivations[random.Integer(0, 5)],
                                     .accumulate = random.Coin()};
      const auto inside = [](const auto& view) { return view.Slice(2, 1, view.dim(2)); };
      Linear(context, inside(random.Coin() ? input.view() : narrow_input.view()), weight.view,
             bias.view, inside(found.view()), options);
      reference::Linear(context, inside(input.view()), weight.view, bias.view,
                        inside(expected.view()), options);
      // A sum of up to 100 products; the output's rounding.
      EXPECT_LT(LargestError(ToFloat32(found).view(), expected.view()),
                gives_floats ? 2e-5f : 0x1.1p-8f);
    }
  });
}

TEST(Linear, WidensHalfPrecisionWeightsPanelByPanel) {
  Random random(3);
  Context context(2);
  // A panel is 8 MB of fp32: 2.5 panels.
  const Tensor input = random.Normal({9, 16384});
  const Tensor weight = random.Normal({320, 16384}, 0.01f, DType::kBF16);
  const Tensor bias = random.Normal({320});
  Tensor actual({9, 320}, DType::kF32), expected({9, 320}, DType::kF32);
  Linear(context, input, weight, bias, actual, {.activation = Activation::kGeluTanh});
  reference::Linear(context, input, weight, bias, expected, {.activation = Activation::kGeluTanh});
  EXPECT_LT(LargestError(actual.view(), expected.view()), 1e-4f);
}

TEST(Linear, TakesTheWorkspaceThatItPlans) {
  Random random(4);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int64_t rows : {1, 8, 9, 300}) {
      Context context(2);
      const Tensor input = random.Normal({rows, 96}), weight = random.Normal({160, 96}, 1, dtype);
      const Tensor bias = random.Normal({160}, 1, dtype);
      Tensor output({rows, 160}, DType::kF32);
      Linear(context, input, weight, bias, output, {.accumulate = true});
      EXPECT_EQ(context.workspace().peak_bytes(),
                PlannedWorkspace(context.placement(), context.threads(), [&](Context& planned) {
                  Linear(planned, input, weight, bias, output, {.accumulate = true});
                }));
    }
  }
}

TEST(Linear, TakesTheWorkspaceThatItPlansInBFloat16) {
  ForEachSimdTarget([] {
    Random random(5);
    for (const DType weights : {DType::kF32, DType::kBF16}) {
      for (const DType type : {DType::kF32, DType::kBF16}) {
        for (const int64_t rows : {1, 9, 300}) {
          Context context(BFloat16OnCpu(), 2);
          const Tensor input = random.Normal({rows, 96}, 1, type);
          const Tensor weight = random.Normal({160, 96}, 1, weights);
          Tensor output = Tensor::Zeros({rows, 160}, type);
          Linear(context, input, weight, {}, output, {.accumulate = true});
          EXPECT_EQ(context.workspace().peak_bytes(),
                    PlannedWorkspace(context.placement(), context.threads(), [&](Context& planned) {
                      Linear(planned, input, weight, {}, output, {.accumulate = true});
                    }));
        }
      }
    }
  });
}

TEST(Linear, TakesEmptyInputs) {
  Context context(1);
  Tensor none({0, 4}, DType::kF32), weight = Tensor::Zeros({3, 4}, DType::kF32),
                                    output({0, 3}, DType::kF32);
  Linear(context, none, weight, {}, output);
  Tensor thin({5, 0}, DType::kF32), no_weight({3, 0}, DType::kF32),
      bias = Tensor::Zeros({3}, DType::kF32);
  bias.data<float>()[1] = 2;
  Tensor filled({5, 3}, DType::kF32);
  Linear(context, thin, no_weight, bias, filled);
  EXPECT_EQ(filled.data<float>()[13], 2);
}

TEST(Linear, NamesTheArgumentThatDoesNotFit) {
  Context context(1);
  Tensor x({2, 5, 8}, DType::kF32), weight({3, 8}, DType::kF32), wrong({3, 7}, DType::kF32);
  Tensor y({2, 5, 3}, DType::kF32), bias({3}, DType::kF32), integers({3, 8}, DType::kI32);
  EXPECT_EQ(ArgumentErrorOf([&] { Linear(context, x, wrong, bias, y); }),
            "linear: weight: expected shape [any, 8], found [3, 7]");
  EXPECT_EQ(ArgumentErrorOf([&] { Linear(context, x, integers, bias, y); }),
            "linear: weight: expected f32, f16 or bf16, found i32");
  EXPECT_NE(ArgumentErrorOf([&] { Linear(context, {}, weight, bias, y); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { Linear(context, x, weight, wrong, y); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { Linear(context, x, weight, bias, x); }), "");
  EXPECT_NE(ArgumentErrorOf([&] {
              Linear(context, x.view().Permute({0, 2, 1}), weight, bias, y);
            }),
            "");
  EXPECT_NE(ArgumentErrorOf([&] {
              Linear(context, x, wrong.view().Permute({1, 0}), bias, y);
            }),
            "");
}

TEST(CublasLt, WithoutTheLibraryTheErrorNamesIt) {
  setenv("TAMIAS_CUBLASLT", "/no/such/library.so", 1);
  ExpectError(ErrorCode::kUnsupported, "cuBLASLt: ", [] {
    const cuda::CublasLt library(Device{DeviceType::kCuda, 0});
  });
  unsetenv("TAMIAS_CUBLASLT");
}

}  // namespace
}  // namespace tamias
