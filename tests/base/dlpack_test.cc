#include "tamias/dlpack.h"

#include <dlpack/dlpack.h>
#include <gmock/gmock.h>

#include <array>
#include <utility>
#include <vector>

#include "tamias/error.h"
#include "tests/support/errors.h"

namespace tamias {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A [2, 3] f32 tensor of another library that counts how often it is given back.
class Foreign {
 public:
  Foreign() {
    managed.dl_tensor = {.data = values.data(),
                         .device = {kDLCPU, 0},
                         .ndim = 2,
                         .dtype = {kDLFloat, 32, 1},
                         .shape = shape.data(),
                         .strides = nullptr,
                         .byte_offset = 0};
    managed.manager_ctx = this;
    managed.deleter = [](DLManagedTensor* self) {
      ++static_cast<Foreign*>(self->manager_ctx)->times_given_back;
    };
  }

  std::string ErrorOfImport() {
    return ErrorOf([&] { const ImportedTensor imported(&managed); });
  }

  std::array<float, 8> values = {0, 1, 2, 3, 4, 5, 6, 7};
  std::array<int64_t, 2> shape = {2, 3};
  std::array<int64_t, 2> strides = {1, 2};
  DLManagedTensor managed = {};
  int times_given_back = 0;
};

TEST(DLPack, AnImportedTensorIsTheOthersMemoryAndIsGivenBackOnce) {
  Foreign foreign;
  {
    ImportedTensor imported(&foreign.managed);
    EXPECT_EQ(imported.view().shape(), (Shape{2, 3}));
    EXPECT_EQ(imported.view().dtype(), DType::kF32);
    EXPECT_TRUE(imported.view().IsContiguous());
    imported.view().host_data<float>()[5] = 50;
    EXPECT_EQ(foreign.values[5], 50);
    const ImportedTensor moved = std::move(imported);
    EXPECT_EQ(foreign.times_given_back, 0);
  }
  EXPECT_EQ(foreign.times_given_back, 1);
}

TEST(DLPack, StridesAndTheOffsetAreKept) {
  Foreign foreign;
  foreign.managed.dl_tensor.strides = foreign.strides.data();
  foreign.managed.dl_tensor.byte_offset = 2 * sizeof(float);
  const ImportedTensor imported(&foreign.managed);
  const Tensor copy = Tensor::CopyOf(imported.view());
  EXPECT_THAT(std::vector<float>(copy.data<float>(), copy.data<float>() + 6),
              ElementsAre(2, 4, 6, 3, 5, 7));
}

TEST(DLPack, ATensorWithoutADeleterBelongsToItsMaker) {
  Foreign foreign;
  foreign.managed.deleter = nullptr;
  const ImportedTensor imported(&foreign.managed);
  EXPECT_EQ(imported.view().dim(1), 3);
}

TEST(DLPack, EveryTypeAndPlaceIsKnownByItsOwnName) {
  const std::vector<std::pair<DLDataType, DType>> types = {{{kDLFloat, 32, 1}, DType::kF32},
                                                           {{kDLFloat, 16, 1}, DType::kF16},
                                                           {{kDLBfloat, 16, 1}, DType::kBF16},
                                                           {{kDLInt, 32, 1}, DType::kI32},
                                                           {{kDLUInt, 8, 1}, DType::kU8}};
  for (const auto& [theirs, ours] : types) {
    Foreign foreign;
    foreign.managed.dl_tensor.dtype = theirs;
    EXPECT_EQ(ImportedTensor(&foreign.managed).view().dtype(), ours);
  }
  Foreign foreign;
  foreign.managed.dl_tensor.device = {kDLCUDA, 2};
  EXPECT_EQ(ImportedTensor(&foreign.managed).view().device(), (Device{DeviceType::kCuda, 2}));
  foreign.managed.dl_tensor.device = {kDLCUDAHost, 1};
  EXPECT_EQ(ImportedTensor(&foreign.managed).view().device(), Device());
}

TEST(DLPack, WhatIsRefusedStaysWithItsOwner) {
  const auto refused = [](const auto& change) {
    Foreign foreign;
    change(foreign.managed.dl_tensor);
    const std::string error = foreign.ErrorOfImport();
    EXPECT_EQ(foreign.times_given_back, 0) << error;
    return error;
  };
  static std::array<int64_t, 7> many = {1, 1, 1, 1, 1, 1, 1};
  static std::array<int64_t, 2> negative = {2, -3};
  static std::array<int64_t, 2> huge = {int64_t{1} << 40, int64_t{1} << 40};
  EXPECT_THAT(refused([](DLTensor& t) {
                t.dtype = {kDLFloat, 64, 1};
              }),
              HasSubstr("dtype: expected f32, f16, bf16, i32, i64 or u8, found code 2, 64 bits"));
  EXPECT_THAT(refused([](DLTensor& t) { t.dtype.lanes = 4; }), HasSubstr("4 lanes"));
  EXPECT_THAT(refused([](DLTensor& t) { t.device = {kDLROCM, 0}; }), HasSubstr("device type 10"));
  EXPECT_THAT(refused([](DLTensor& t) { t.device = {kDLCUDA, -1}; }), HasSubstr("number -1"));
  EXPECT_THAT(refused([](DLTensor& t) { t.ndim = 7, t.shape = many.data(); }),
              HasSubstr("ndim: expected 0 to 6 axes, found 7"));
  EXPECT_THAT(refused([](DLTensor& t) { t.ndim = -1; }), HasSubstr("found -1"));
  EXPECT_THAT(refused([](DLTensor& t) { t.shape = nullptr; }), HasSubstr("shape: expected 2"));
  EXPECT_THAT(refused([](DLTensor& t) { t.shape = negative.data(); }), HasSubstr("shape[1]"));
  EXPECT_THAT(refused([](DLTensor& t) { t.shape = huge.data(); }), HasSubstr("too large"));
  EXPECT_THAT(refused([](DLTensor& t) { t.data = nullptr; }), HasSubstr("data: expected memory"));
  EXPECT_THAT(refused([](DLTensor& t) { t.byte_offset = 2; }), HasSubstr("a multiple of 4"));
  EXPECT_THAT(ErrorOf([] { const ImportedTensor imported(nullptr); }), HasSubstr("found null"));
}

TEST(DLPack, AnExportedTensorLivesUntilItsReceiverLetsGo) {
  Tensor tensor = Tensor::Zeros({3, 2}, DType::kI64);
  tensor.data<int64_t>()[5] = 7;
  const void* memory = tensor.view().raw();
  DLManagedTensor* managed = ExportDLPack(std::move(tensor));
  const DLTensor& theirs = managed->dl_tensor;
  EXPECT_EQ(theirs.data, memory);
  EXPECT_EQ(theirs.device.device_type, kDLCPU);
  EXPECT_EQ(theirs.dtype.code, kDLInt);
  EXPECT_EQ(theirs.dtype.bits, 64);
  ASSERT_EQ(theirs.ndim, 2);
  EXPECT_THAT(std::vector<int64_t>(theirs.shape, theirs.shape + 2), ElementsAre(3, 2));
  EXPECT_THAT(std::vector<int64_t>(theirs.strides, theirs.strides + 2), ElementsAre(2, 1));
  const ImportedTensor back(managed);  // frees it at the end: the sanitizers watch
  EXPECT_EQ(back.view().host_data<int64_t>()[5], 7);
  EXPECT_THAT(ErrorOf([] { ExportDLPack(Tensor()); }), HasSubstr("empty"));
}

}  // namespace
}  // namespace tamias
