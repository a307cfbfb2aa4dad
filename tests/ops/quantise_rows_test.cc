#include "ops/quantise_rows.h"

#include <gmock/gmock.h>

#include <cmath>

#include "ops/dequantise.h"
#include "tests/support/compare_tensors.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"

namespace tamias {
namespace {

constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

struct Rows {
  explicit Rows(const Shape& shape)
      : codes(shape, DType::kF8E4M3), scales({shape[0], shape[1]}, DType::kF32) {}
  Tensor codes, scales;
};

TEST(QuantiseRows, MatchesReferenceForSlicesOfAnyWidth) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Context context(static_cast<int>(random.Integer(1, 3)));
    const Shape shape = {random.Integer(1, 3), random.Integer(1, 40), random.Integer(0, 90)};
    const int64_t before = random.Integer(0, 9), above = random.Integer(0, 3);
    const Tensor values = random.Normal({shape[0], above + shape[1], before + shape[2]},
                                        std::ldexp(1.0f, static_cast<int>(random.Integer(-14, 8))),
                                        kTypes[random.Integer(0, 2)]);
    const ConstTensorView slice =
        values.view().Slice(2, before, before + shape[2]).Slice(1, above, above + shape[1]);
    Rows actual(shape), expected(shape);
    QuantiseRows(context, slice, actual.codes, actual.scales);
    reference::QuantiseRows(context, slice, expected.codes, expected.scales);
    EXPECT_TRUE(SameBytes(actual.scales, expected.scales));
    EXPECT_TRUE(SameBytes(actual.codes, expected.codes));
  }
}

// Every number half way between two codes, and its neighbours.
TEST(QuantiseRows, RoundsToTheNearestAndTheEvenOfTwo) {
  std::vector<float> values = {448};
  for (uint8_t code = 0; code < 0x7E; ++code) {
    const Float8E4M3 next{static_cast<uint8_t>(code + 1)};
    const float middle = (ToFloat(Float8E4M3{code}) + ToFloat(next)) / 2;
    for (const float value : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1e3f)}) {
      values.push_back(value);
      values.push_back(-value);
    }
  }
  const Shape shape = {1, 1, static_cast<int64_t>(values.size())};
  const ConstTensorView input(values.data(), DType::kF32, shape);
  Context context(1);
  Rows actual(shape), expected(shape);
  QuantiseRows(context, input, actual.codes, actual.scales);
  reference::QuantiseRows(context, input, expected.codes, expected.scales);
  EXPECT_EQ(actual.scales.data<float>()[0], 1);
  EXPECT_TRUE(SameBytes(actual.codes, expected.codes));
}

TEST(QuantiseRows, WhatIsNotFiniteStaysSo) {
  Context context(1);
  for (const float value : {INFINITY, -INFINITY, NAN}) {
    Tensor input({1, 2, 5}, DType::kF32);
    std::fill_n(input.data<float>(), 10, 3.0f);
    input.data<float>()[7] = value;
    Rows rows(input.shape());
    QuantiseRows(context, input, rows.codes, rows.scales);
    Tensor wide({2, 5}, DType::kF32);
    Dequantise(context, MatrixOf(rows.codes, rows.scales), wide);
    for (int i = 0; i < 5; ++i) {
      EXPECT_EQ(wide.data<float>()[i], 3) << i;
      EXPECT_TRUE(std::isnan(wide.data<float>()[5 + i])) << i;
    }
  }
}

TEST(QuantiseRows, NamesTheArgumentThatDoesNotFit) {
  Context context(1);
  const Tensor input = Tensor::Zeros({1, 2, 3}, DType::kF32);
  Rows rows({1, 2, 3}), wrong({2, 1, 3});
  EXPECT_EQ(ArgumentErrorOf([&] { QuantiseRows(context, input, wrong.codes, rows.scales); }),
            "quantise rows: codes: expected shape [1, 2, 3], found [2, 1, 3]");
  EXPECT_EQ(ArgumentErrorOf([&] { QuantiseRows(context, input, rows.codes, wrong.scales); }),
            "quantise rows: scales: expected shape [1, 2], found [2, 1]");
  EXPECT_EQ(ArgumentErrorOf([&] { QuantiseRows(context, rows.codes, rows.codes, rows.scales); }),
            "quantise rows: input: expected f32, f16 or bf16, found fp8_e4m3");
}

}  // namespace
}  // namespace tamias
