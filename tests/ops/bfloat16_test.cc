// Operations on bf16 activations on the CPU that compute in fp32: what they give is what they give
// for the same values in f32, rounded. Those that multiply bf16 are tested beside their f32 forms.
#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "ops/activation.h"
#include "ops/attention_rest.h"
#include "ops/block_mean.h"
#include "ops/copy_indices.h"
#include "ops/distance.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/norm.h"
#include "ops/residual.h"
#include "ops/rotary.h"
#include "ops/transpose.h"
#include "tests/support/bfloat16.h"
#include "tests/support/compare_tensors.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"
#include "tests/support/simd_targets.h"

namespace tamias {
namespace {

// Operands of a call, the same values each time; activations have the type of the context's.
class Operands {
 public:
  explicit Operands(const Context& context) : dtype_(context.activation_dtype()), random_(7) {}

  // With a few elements between the rows.
  TensorView Activations(Shape shape) { return Rows(std::move(shape), dtype_); }
  TensorView Floats(Shape shape) { return Rows(std::move(shape), DType::kF32); }
  TensorView Whole(const Shape& shape, DType dtype) {
    tensors_.push_back(random_.Normal(shape));
    if (dtype == DType::kF32) {
      RoundToBFloat16(tensors_.back());
    } else {
      tensors_.back() = InBFloat16(tensors_.back());
    }
    return tensors_.back();
  }
  TensorView WholeActivations(const Shape& shape) { return Whole(shape, dtype_); }
  TensorView Indices(const Shape& shape, int32_t step) {
    lists_.emplace_back(shape, DType::kI32);
    for (int64_t i = 0; i < lists_.back().NumElements(); ++i) {
      lists_.back().data<int32_t>()[i] = static_cast<int32_t>(i % shape[shape.rank() - 1]) * step;
    }
    return lists_.back();
  }
  const std::deque<Tensor>& tensors() const { return tensors_; }

 private:
  TensorView Rows(Shape shape, DType dtype) {
    const int64_t width = shape[shape.rank() - 1];
    shape[shape.rank() - 1] = width + 3;
    return Whole(shape, dtype).Slice(shape.rank() - 1, 1, 1 + width);
  }

  DType dtype_;
  Random random_;
  std::deque<Tensor> tensors_;
  std::deque<Tensor> lists_;
};

// Widths that fill vectors, and some that do not.
using Call = std::function<void(Context&, Operands&, int64_t width)>;

struct Case {
  std::string name;
  Call call;
};

std::vector<Case> Cases() {
  return {
      {"Add",
       [](Context& c, Operands& o, int64_t n) {
         Add(c, o.Activations({3, n}), o.Floats({3, n}), o.Floats({3, n}));
       }},
      {"AddInPlace",
       [](Context& c, Operands& o, int64_t n) {
         const TensorView a = o.Activations({3, n});
         Add(c, a, o.Activations({3, n}), a);
       }},
      {"Multiply",
       [](Context& c, Operands& o, int64_t n) {
         Multiply(c, o.Activations({3, n}), o.Activations({3, n}), o.Activations({3, n}));
       }},
      {"AbsoluteDifference",
       [](Context& c, Operands& o, int64_t n) {
         AbsoluteDifference(c, o.Floats({3, n}), o.Activations({3, n}), o.Activations({3, n}));
       }},
      {"Axpy",
       [](Context& c, Operands& o, int64_t n) {
         Axpy(c, 0.7f, o.Activations({3, n}), o.Activations({3, n}));
       }},
      {"AxpyToFloats",
       [](Context& c, Operands& o, int64_t n) {
         Axpy(c, 0.7f, o.Activations({3, n}), o.Floats({3, n}));
       }},
      {"GroupNorm",
       [](Context& c, Operands& o, int64_t n) {
         const int64_t channels = 2 * n;
         GroupNorm(c, o.WholeActivations({2, 3, 5, channels}), 2, o.Floats({channels}), {}, 1e-5f,
                   true, o.WholeActivations({2, 3, 5, channels}));
       }},
      {"ScaleShift",
       [](Context& c, Operands& o, int64_t n) {
         ScaleShift(c, o.Activations({3, n}), 0.3f, 1.0f, o.Activations({3, n}));
       }},
      {"ConvertNarrows",
       [](Context& c, Operands& o, int64_t n) {
         Convert(c, o.Floats({3, n}), o.Activations({3, n}));
       }},
      {"ConvertWidens",
       [](Context& c, Operands& o, int64_t n) {
         Convert(c, o.Activations({3, n}), o.Floats({3, n}));
       }},
      {"ConvertCopies",
       [](Context& c, Operands& o, int64_t n) {
         Convert(c, o.Activations({3, n}), o.Activations({3, n}));
       }},
      {"Activate",
       [](Context& c, Operands& o, int64_t n) {
         for (const Activation kind : {Activation::kRelu, Activation::kGeluTanh, Activation::kSilu,
                                       Activation::kGeluErf, Activation::kTanh}) {
           Activate(c, kind, o.Activations({3, n}));
         }
         Activate(c, Activation::kSilu, o.WholeActivations({3, n}));
       }},
      {"LayerNorm",
       [](Context& c, Operands& o, int64_t n) {
         LayerNorm(c, o.Activations({2, 3, n}), o.Whole({n}, DType::kF32),
                   o.Whole({n}, DType::kBF16), 1e-6f, o.Activations({2, 3, n}));
       }},
      {"LayerNormModulate",
       [](Context& c, Operands& o, int64_t n) {
         LayerNormModulate(c, o.Floats({2, 3, n}), o.Floats({2, n}), o.Floats({2, n}), 1e-6f,
                           o.Activations({2, 3, n}));
         LayerNormModulate(c, o.Activations({2, 3, n}), o.Activations({2, n}),
                           o.Activations({2, n}), 1e-6f, o.Floats({2, 3, n}));
       }},
      {"RmsNorm",
       [](Context& c, Operands& o, int64_t n) {
         const TensorView rows = o.Activations({2, 3, n});
         RmsNorm(c, rows, o.Whole({n}, DType::kF32), 1e-6f, rows);
       }},
      {"RmsNormRotary",
       [](Context& c, Operands& o, int64_t n) {
         const int64_t d = 2 * n;
         RmsNormRotary(c, o.Activations({1, 2, 5, d}), o.Whole({d}, DType::kBF16), 1e-6f,
                       o.Floats({5, d}), o.Floats({5, d}), o.Activations({1, 2, 5, d}));
         RmsNormRotary(c, o.Activations({1, 2, 5, d}), {}, 1e-6f, o.Activations({2, 5, d}),
                       o.Activations({2, 5, d}), o.Activations({1, 2, 5, d}));
         RmsNormRotary(c, o.Activations({1, 2, 5, d}), {}, 1e-6f, {}, {},
                       o.Activations({1, 2, 5, d}));
       }},
      {"ResidualWithoutNorm",
       [](Context& c, Operands& o, int64_t n) {
         const ResidualRows streams[] = {
             {o.Floats({2, 3, n}), o.Floats({2, n}), o.Activations({2, 3, n}), {}, {}, {}},
             {o.Activations({2, 3, n}), o.Activations({2, n}), o.Floats({2, 3, n}), {}, {}, {}}};
         ResidualNorm(c, streams, {});
       }},
      {"BlockMean",
       [](Context& c, Operands& o, int64_t n) {
         BlockMean(c, o.Activations({2, 7, n}), 3, o.Activations({2, 3, n}));
         BlockMean(c, o.Activations({2, 7, n}), 3, o.Floats({2, 3, n}));
       }},
      {"AttentionRest",
       [](Context& c, Operands& o, int64_t n) {
         const TensorView lse = o.Whole({1, 2, 5}, DType::kF32);
         const TensorView selected = o.Whole({1, 2, 5}, DType::kF32);
         ScaleShift(c, lse, 1.0f, -2.0f, selected);
         AttentionRest(c,
                       {.output = o.Activations({1, 2, 5, n}),
                        .log_sum_exp = lse,
                        .selected_log_sum_exp = selected},
                       o.Activations({1, 2, 5, n}), o.Whole({1, 2, 5}, DType::kF32));
       }},
      {"Transpose",
       [](Context& c, Operands& o, int64_t n) {
         Transpose(c, o.Activations({5, n}), o.WholeActivations({n, 5}));
         Transpose(c, o.Floats({5, n}), o.WholeActivations({n, 5}));
       }},
      {"CopyIndices",
       [](Context& c, Operands& o, int64_t n) {
         CopyIndices(c, o.Activations({2, 3 * n}), o.Indices({2, n}, 3), o.Indices({2}, 1),
                     o.Activations({2, 3 * n}));
       }},
      {"Embedding",
       [](Context& c, Operands& o, int64_t n) {
         Embedding(c, o.Whole({9, n}, DType::kBF16), o.Indices({2, 3}, 2),
                   o.WholeActivations({2, 3, n}));
         Embedding(c, o.Whole({9, n}, DType::kF32), o.Indices({2, 3}, 2),
                   o.WholeActivations({2, 3, n}));
       }},
  };
}

class BFloat16 : public testing::TestWithParam<Case> {};

TEST_P(BFloat16, GivesWhatF32GivesRounded) {
  ForEachSimdTarget([&] {
    for (const int64_t width : {1, 3, 16, 32, 71}) {
      SCOPED_TRACE(width);
      Context wide(2), narrow(BFloat16OnCpu(), 2);
      Operands expected(wide), found(narrow);
      GetParam().call(wide, expected, width);
      GetParam().call(narrow, found, width);
      for (size_t i = 0; i < found.tensors().size(); ++i) {
        SCOPED_TRACE(i);
        const Tensor& result = found.tensors()[i];
        const Tensor& reference = expected.tensors()[i];
        EXPECT_TRUE(
            SameBytes(result, result.dtype() == DType::kBF16 && reference.dtype() == DType::kF32
                                  ? InBFloat16(reference)
                                  : Tensor::CopyOf(reference.view())));
      }
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Operations, BFloat16, testing::ValuesIn(Cases()),
                         [](const auto& test) { return test.param.name; });

TEST(BFloat16Distance, IsThatOfTheValues) {
  Context wide(2), narrow(BFloat16OnCpu(), 2);
  Operands expected(wide), found(narrow);
  const auto measure = [](Context& context, Operands& o) {
    return MeasureDistance(context, o.Activations({3, 700}), o.Floats({3, 700}));
  };
  const Distance e = measure(wide, expected), f = measure(narrow, found);
  EXPECT_NEAR(f.absolute, e.absolute, 1e-5 * e.absolute);
  EXPECT_NEAR(f.absolute_reference, e.absolute_reference, 1e-5 * e.absolute_reference);
  EXPECT_NEAR(f.squared, e.squared, 1e-5 * e.squared);
  EXPECT_NEAR(f.squared_reference, e.squared_reference, 1e-5 * e.squared_reference);
}

TEST(BFloat16Activations, AreForContextsOfTheirType) {
  Context wide(1), narrow(BFloat16OnCpu(), 1);
  Tensor halves = Tensor::Zeros({2, 8}, DType::kBF16), wrong = Tensor::Zeros({2, 8}, DType::kF16);
  Activate(narrow, Activation::kSilu, halves);
  EXPECT_EQ(ArgumentErrorOf([&] { Activate(wide, Activation::kSilu, halves); }),
            "activation: values: expected f32, found bf16");
  EXPECT_EQ(ArgumentErrorOf([&] { Activate(narrow, Activation::kSilu, wrong); }),
            "activation: values: expected f32, found f16");
}

}  // namespace
}  // namespace tamias
