#include "tamias/tensor.h"

#include <gtest/gtest.h>

#include <limits>

#include "tamias/error.h"
#include "tamias/workspace.h"

namespace tamias {
namespace {

TEST(Tensor, ScalesOfRowsFollowSlices) {
  const Tensor codes = Tensor::Zeros({4, 6}, DType::kF8E4M3), scales({4}, DType::kF32);
  const ConstTensorView matrix = codes.view().WithRowScales(scales.data<float>());
  EXPECT_EQ(codes.view().row_scales(), nullptr);
  EXPECT_EQ(matrix.Slice(1, 2, 5).row_scales(), scales.data<float>());
  EXPECT_EQ(matrix.Slice(0, 3, 4).Slice(-1, 0, 1).row_scales(), scales.data<float>() + 3);
  // What has no rows any more would lose them.
  EXPECT_THROW(matrix.Permute({1, 0}), Error);
  EXPECT_THROW(matrix.Reshape({24}), Error);
  EXPECT_THROW(matrix.Select(0, 1), Error);
  EXPECT_THROW(matrix.SplitAxis(1, 2, 3), Error);
  EXPECT_THROW(scales.view().WithRowScales(scales.data<float>()), Error);
}

TEST(Tensor, SliceSelectAndPermuteAddressTheSameElements) {
  Tensor tensor({2, 3, 4}, DType::kF32);
  for (int i = 0; i < 24; ++i) tensor.data<float>()[i] = static_cast<float>(i);
  const TensorView row = tensor.view().Slice(1, 1, 3).Select(0, 1);
  EXPECT_EQ(row.shape(), (Shape{2, 4}));
  EXPECT_EQ(row.data<float>()[0], 16.0f);
  const TensorView swapped = tensor.view().Permute({2, 0, 1});
  EXPECT_EQ(swapped.shape(), (Shape{4, 2, 3}));
  EXPECT_FALSE(swapped.IsContiguous());
  const Tensor copy = Tensor::CopyOf(swapped);
  EXPECT_EQ(copy.data<float>()[1 * 6 + 1 * 3 + 2], 1 * 12 + 2 * 4 + 1);
}

TEST(Tensor, SplitAxisKeepsStrides) {
  Tensor tensor({2, 12}, DType::kF32);
  const TensorView split = tensor.view().Slice(1, 6, 12).SplitAxis(1, 2, 3);
  EXPECT_EQ(split.shape(), (Shape{2, 2, 3}));
  EXPECT_EQ(split.strides(), (Shape{12, 3, 1}));
}

TEST(Tensor, RefusesAbsurdSizes) {
  EXPECT_THROW(Tensor({int64_t{1} << 40, int64_t{1} << 40}, DType::kF32), Error);
  EXPECT_THROW(Tensor({int64_t{1} << 61}, DType::kF32), Error);
}

TEST(DType, Float16RoundsToNearestEven) {
  for (uint32_t bits = 0; bits < 0x7C00; ++bits) {  // all finite positive numbers come back
    const auto half = static_cast<uint16_t>(bits);
    ASSERT_EQ(ToFloat16(ToFloat(Float16{half})).bits, half);
    ASSERT_EQ(ToFloat16(-ToFloat(Float16{half})).bits, half | 0x8000u);
  }
  EXPECT_EQ(ToFloat(ToFloat16(1 + 0x1p-11f)), 1.0f);
  EXPECT_EQ(ToFloat(ToFloat16(1 + 0x3p-11f)), 1 + 0x2p-10f);
  EXPECT_EQ(ToFloat(ToFloat16(0x1p-25f)), 0.0f);
  EXPECT_EQ(ToFloat(ToFloat16(0x3p-25f)), 0x2p-24f);
  EXPECT_EQ(ToFloat16(65519.0f).bits, 0x7BFF);
  EXPECT_EQ(ToFloat16(65520.0f).bits, 0x7C00);
  EXPECT_EQ(ToFloat16(-1e30f).bits, 0xFC00);
  EXPECT_GT(ToFloat16(std::numeric_limits<float>::quiet_NaN()).bits, 0x7C00);
}

TEST(Workspace, ReusesMemoryAfterAScope) {
  Workspace workspace;
  void* first = nullptr;
  {
    Workspace::Scope scope(workspace);
    first = workspace.Allocate({100}, DType::kF32).raw();
    workspace.Allocate({1000}, DType::kF32);
  }
  Workspace::Scope scope(workspace);
  EXPECT_EQ(workspace.Allocate({90}, DType::kF32).raw(), first);
  EXPECT_EQ(workspace.peak_bytes(), 448u + 4032u);
}

TEST(DType, HalfFloatsConvertExactly) {
  EXPECT_EQ(ToFloat(Float16{0x3C00}), 1.0f);
  EXPECT_EQ(ToFloat(Float16{0x8001}), -0x1p-24f);
  EXPECT_EQ(ToFloat(Float16{0x7BFF}), 65504.0f);
  EXPECT_EQ(ToFloat(BFloat16{0x3F80}), 1.0f);
  EXPECT_EQ(ToBFloat16(1.00390625f).bits, 0x3F80);  // a tie goes to even
  EXPECT_EQ(ToBFloat16(1.01171875f).bits, 0x3F82);
}

}  // namespace
}  // namespace tamias
