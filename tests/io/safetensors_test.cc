#include "io/safetensors.h"

#include <fmt/format.h>

#include <gmock/gmock.h>

#include <cmath>
#include <numeric>
#include <random>

#include "tests/support/errors.h"
#include "tests/support/test_files.h"

namespace tamias {
namespace {

std::string WithLength(std::string_view header, std::string_view data) {
  std::string file;
  for (int i = 0; i < 8; ++i) file += static_cast<char>((header.size() >> (8 * i)) & 0xFF);
  return file.append(header).append(data);
}

class Safetensors : public ::testing::Test {
 protected:
  // Opens a file of this header and this many data bytes.
  SafetensorsFile Open(std::string_view header, size_t data_bytes) {
    WriteBytes(path_, WithLength(header, std::string(data_bytes, '\1')));
    return SafetensorsFile(path_);
  }
  void ExpectInvalid(std::string_view text, std::string_view header, size_t data_bytes) {
    SCOPED_TRACE(header);
    ExpectError(ErrorCode::kInvalidFile, text, [&] { Open(header, data_bytes); });
  }

  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "model.safetensors";
};

TEST_F(Safetensors, RoundTripsEveryTypeWithMetadata) {
  Tensor f32({2, 3}, DType::kF32), i64({2}, DType::kI64), u8({5}, DType::kU8),
      f16({1, 2}, DType::kF16), bf16({3}, DType::kBF16), i32(Shape{}, DType::kI32);
  std::iota(f32.data<float>(), f32.data<float>() + 6, 0.5f);
  i64.data<int64_t>()[0] = -1, i64.data<int64_t>()[1] = int64_t{1} << 40;
  std::iota(u8.data<uint8_t>(), u8.data<uint8_t>() + 5, uint8_t{250});
  f16.data<Float16>()[0] = {0x3C00}, f16.data<Float16>()[1] = {0xC000};
  for (int i = 0; i < 3; ++i) bf16.data<BFloat16>()[i] = ToBFloat16(static_cast<float>(i));
  *i32.data<int32_t>() = 42;
  const Tensor empty({0, 4}, DType::kF32);
  const NamedTensor tensors[] = {{"u8", u8},      {"f32", f32},
                                 {"i64", i64},    {"f16", f16},
                                 {"bf16", bf16},  {"a \"quoted\"\n name", i32},
                                 {"none", empty}, {"f32.T", f32.view().Permute({1, 0})}};
  WriteSafetensors(path_, tensors, {{"seed", "7"}, {"prompt", "ein Bär"}});
  EXPECT_EQ(folder_.NumFiles(), 1u);

  const SafetensorsFile file(path_);
  EXPECT_EQ(file.entries().size(), 8u);
  EXPECT_EQ(file.metadata().find("prompt")->second, "ein Bär");
  EXPECT_EQ(file.Get("f32").shape(), Shape({2, 3}));
  EXPECT_EQ(file.Get("f32").data<float>()[5], 5.5f);
  EXPECT_EQ(file.Get("f32.T").shape(), Shape({3, 2}));
  EXPECT_EQ(file.Get("f32.T").data<float>()[1], 3.5f);
  EXPECT_EQ(file.Get("i64").data<int64_t>()[1], int64_t{1} << 40);
  EXPECT_EQ(file.Get("u8").data<uint8_t>()[4], 254);
  EXPECT_EQ(ToFloat(file.Get("f16").data<Float16>()[1]), -2.0f);
  EXPECT_EQ(ToFloat(file.Get("bf16").data<BFloat16>()[2]), 2.0f);
  EXPECT_EQ(file.Get("a \"quoted\"\n name").rank(), 0);
  EXPECT_EQ(*file.Get("a \"quoted\"\n name").data<int32_t>(), 42);
  EXPECT_EQ(file.Get("none").NumElements(), 0);
  EXPECT_EQ(file.entries().find("i64")->second.begin % 64, 0u);
}

TEST_F(Safetensors, WriterRefusesRepeatedNamesAndInvalidText) {
  const Tensor tensor({1}, DType::kU8);
  const NamedTensor twice[] = {{"a", tensor}, {"a", tensor}};
  ExpectError(ErrorCode::kInvalidArgument, "tensor 'a': name occurs twice or is reserved",
              [&] { WriteSafetensors(path_, twice); });
  const NamedTensor reserved[] = {{"__metadata__", tensor}};
  ExpectError(ErrorCode::kInvalidArgument, "reserved", [&] { WriteSafetensors(path_, reserved); });
  const NamedTensor invalid[] = {{"\xFF", tensor}};
  ExpectError(ErrorCode::kInvalidArgument, "UTF-8", [&] { WriteSafetensors(path_, invalid); });
  EXPECT_EQ(folder_.NumFiles(), 0u);
  ExpectError(ErrorCode::kIo, "/dev/full: cannot write: No space left on device",
              [&] { WriteSafetensors("/dev/full", std::span(twice, 1)); });
}

TEST_F(Safetensors, AcceptsPaddingAndEmptyFiles) {
  EXPECT_EQ(Open("{}   ", 0).entries().size(), 0u);
  EXPECT_EQ(Open(R"({"__metadata__": {}})", 0).metadata().size(), 0u);
  EXPECT_EQ(
      Open(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}} )", 0).Get("a").NumElements(),
      0);
}

TEST_F(Safetensors, LeavesAloneWhatItDoesNotRead) {
  EXPECT_EQ(Open(R"({"__metadata__": null})", 0).metadata().size(), 0u);
  const SafetensorsFile file = Open(
      R"({"__metadata__":null,"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":{"y":NaN}}})",
      1);
  EXPECT_EQ(file.Get("w").shape(), Shape({1}));
}

TEST_F(Safetensors, SaysWhatLiesInItsPlace) {
  using namespace std::string_view_literals;
  const auto fails = [&](std::string_view text, std::string_view bytes) {
    WriteBytes(path_, bytes);
    ExpectError(ErrorCode::kInvalidFile, text, [&] { SafetensorsFile file(path_); });
  };
  fails("model.safetensors: this is a Git LFS pointer",
        "version https://git-lfs.github.com/spec/v1\noid sha256:4209\nsize 22142168\n");
  fails("model.safetensors: this is an HTML page", "<!DOCTYPE html><html></html>");
  fails("model.safetensors: this is gzip data", "\x1F\x8B\x08\0\0\0\0\0\0\x03"sv);
  fails("model.safetensors: this is a PyTorch checkpoint (pickle)",
        "PK\x03\x04\0\0\x08\x08\0\0\0\0model/data.pkl"sv);
  fails("model.safetensors: this is JSON text, not tensors", R"({"error": "Entry not found"})");
  fails("model.safetensors: cut off: 0 bytes", "");
  // A header of 0x8B1F bytes begins like gzip.
  std::string header = "{}";
  header.resize(0x8B1F, ' ');
  EXPECT_TRUE(Open(header, 0).entries().empty());
}

TEST_F(Safetensors, CopiesTensorsThatLieAtOddAddresses) {
  for (int spaces = 0; spaces < 8; ++spaces) {
    const SafetensorsFile file = SafetensorsFile(
        WriteBytes(path_, WithLength(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[1,5]},)"
                                     R"("e":{"dtype":"I64","shape":[0],"data_offsets":[5,5]},)"
                                     R"("b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})" +
                                         std::string(static_cast<size_t>(spaces), ' '),
                                     std::string("\7\0\0\x80\x3F", 5))));
    EXPECT_EQ(*file.Get("a").data<float>(), 1.0f);
    EXPECT_EQ(*file.Get("b").data<uint8_t>(), 7);
    EXPECT_EQ(file.Get("e").NumElements(), 0);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(file.Get("a").raw()) % 4, 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(file.Get("e").raw()) % 8, 0u);
  }
}

TEST_F(Safetensors, ListsOtherTypesButDoesNotHandThemOut) {
  const SafetensorsFile file =
      Open(R"({"a":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[0,3]},)"
           R"("b":{"dtype":"F4","shape":[2,3],"data_offsets":[3,6]},)"
           R"("c":{"dtype":"U8","shape":[1,1,1,1,1,1,1],"data_offsets":[6,7]},)"
           R"("d":{"dtype":"BOOL","shape":[2],"data_offsets":[7,9]},)"
           R"("e":{"dtype":"F5_OF_TOMORROW","shape":[3],"data_offsets":[9,11]}})",
           11);
  EXPECT_EQ(file.entries().find("a")->second.dtype_name, "F8_E4M3");
  ExpectError(ErrorCode::kUnsupported, "tensor 'a': element type F8_E4M3 is not supported",
              [&] { file.Get("a"); });
  ExpectError(ErrorCode::kUnsupported, "tensor 'c': 7 axes", [&] { file.Get("c"); });
  ExpectError(ErrorCode::kUnsupported, "tensor 'c': 7 axes", [&] { file.ShapeOf("c"); });
  ExpectError(ErrorCode::kUnsupported, "tensor 'd': element type BOOL is not supported",
              [&] { file.Get("d"); });
  ExpectError(ErrorCode::kUnsupported, "tensor 'e': element type F5_OF_TOMORROW is not supported",
              [&] { file.Get("e"); });
  EXPECT_EQ(file.ShapeOf("b"), Shape({2, 3}));
  EXPECT_EQ(file.BytesOf("b").size(), 3u);
  EXPECT_EQ(file.BytesOf("e").size(), 2u);
  ExpectError(ErrorCode::kNotFound, "model.safetensors: tensor 'x': missing",
              [&] { file.Get("x"); });
}

TEST_F(Safetensors, RefusesHeadersThatContradictTheFile) {
  const auto entry = [](std::string_view dtype, std::string_view shape, std::string_view offsets) {
    return fmt::format(R"({{"w":{{"dtype":{},"shape":{},"data_offsets":{}}}}})", dtype, shape,
                       offsets);
  };
  const std::string f32 = "\"F32\"";
  EXPECT_EQ(Open(entry(f32, "[2,1]", "[0,8]"), 8).Get("w").shape(), Shape({2, 1}));
  ExpectInvalid(
      "model.safetensors: tensor 'w': data_offsets [0, 8) are outside of the file's 7 "
      "data bytes: the file is cut off",
      entry(f32, "[2,1]", "[0,8]"), 7);
  ExpectInvalid("model.safetensors: 1 bytes after the last tensor", entry(f32, "[2]", "[0,8]"), 9);
  ExpectInvalid("tensor 'w': F32 [3] takes 12 bytes, data_offsets [0, 8) hold 8",
                entry(f32, "[3]", "[0,8]"), 8);
  ExpectInvalid("tensor 'w': leaves a gap after the data before it (1 bytes)",
                entry(f32, "[2]", "[1,9]"), 9);
  ExpectInvalid("tensor 'w': data_offsets [8, 0)", entry(f32, "[2]", "[8,0]"), 8);
  ExpectInvalid("data_offsets: expected two non-negative", entry(f32, "[2]", "[0]"), 8);
  ExpectInvalid("data_offsets: expected two non-negative", entry(f32, "[2]", "[-8,0]"), 8);
  ExpectInvalid("data_offsets: expected two non-negative", entry(f32, "[2]", "[0,8.0]"), 8);
  ExpectInvalid("data_offsets: expected two non-negative", entry(f32, "[2]", "\"0,8\""), 8);
  ExpectInvalid("data_offsets [0, 18446744073709551615)",
                entry(f32, "[2]", "[0,18446744073709551615]"), 8);
  ExpectInvalid("shape: expected non-negative integers, found -2", entry(f32, "[-2]", "[0,8]"), 8);
  ExpectInvalid("shape: expected non-negative", entry(f32, "[2.0]", "[0,8]"), 8);
  ExpectInvalid("shape: expected non-negative", entry(f32, "[18446744073709551615]", "[0,8]"), 8);
  ExpectInvalid("shape: expected an array", entry(f32, "2", "[0,8]"), 8);
  ExpectInvalid("shape: the number of elements overflows",
                entry(f32, "[4294967296,4294967296]", "[0,8]"), 8);
  ExpectInvalid("shape: the number of elements overflows",
                entry(f32, "[0,4294967296,4294967296]", "[0,0]"), 0);
  ExpectInvalid("shape: not a whole number of bytes", entry("\"F4\"", "[3]", "[0,2]"), 2);
  ExpectInvalid("shape: the number of elements overflows",
                entry("\"F99\"", "[4294967296,4294967296]", "[0,8]"), 8);
  ExpectInvalid("tensor 'w': dtype: expected a string", entry("32", "[2]", "[0,8]"), 8);
}

TEST_F(Safetensors, RefusesMalformedHeaders) {
  ExpectInvalid("header is not a JSON object", "[]", 0);
  ExpectInvalid("not JSON", "", 0);
  ExpectInvalid("not JSON", "{\"w\": ", 0);
  ExpectInvalid("tensor 'w': expected an object", R"({"w": 3})", 0);
  ExpectInvalid("tensor 'w': dtype: expected a string", R"({"w": {}})", 0);
  ExpectInvalid("tensor 'w': shape: expected an array", R"({"w": {"dtype": "U8"}})", 0);
  ExpectInvalid("tensor 'w': data_offsets", R"({"w": {"dtype": "U8", "shape": []}})", 0);
  ExpectInvalid("key \"w\" occurs twice",
                R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                R"("w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                1);
  ExpectInvalid("tensor 'b': overlaps the data before it (1 bytes)",
                R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
                3);
  ExpectInvalid("__metadata__: expected an object", R"({"__metadata__": []})", 0);
  ExpectInvalid("__metadata__: 'k': expected a string", R"({"__metadata__": {"k": 1}})", 0);
}

TEST_F(Safetensors, RefusesFilesThatAreNotThere) {
  ExpectError(ErrorCode::kNotFound, "model.safetensors: cannot open: No such file",
              [&] { SafetensorsFile file(path_); });
  ExpectError(ErrorCode::kIo, "cannot map: Is a directory",
              [&] { SafetensorsFile file(folder_.path()); });
}

TEST_F(Safetensors, RefusesEveryCutOffLength) {
  Tensor tensor({3, 2}, DType::kF32);
  std::iota(tensor.data<float>(), tensor.data<float>() + 6, 1.0f);
  const NamedTensor tensors[] = {{"weight", tensor}, {"bias", tensor}};
  WriteSafetensors(path_, tensors, {{"format", "pt"}});
  const std::string whole = ReadBytes(path_);
  for (size_t size = 0; size < whole.size(); ++size) {
    SCOPED_TRACE(size);
    WriteBytes(path_, std::string_view(whole).substr(0, size));
    ExpectError(ErrorCode::kInvalidFile,
                "model.safetensors: ", [&] { SafetensorsFile file(path_); });
  }
  WriteBytes(path_, whole + '\0');
  ExpectError(ErrorCode::kInvalidFile, "1 bytes after the last tensor",
              [&] { SafetensorsFile file(path_); });
}

TEST_F(Safetensors, SurvivesEverySingleBitFlipOfTheHeader) {
  Tensor tensor({3, 2}, DType::kF32);
  std::iota(tensor.data<float>(), tensor.data<float>() + 6, 1.0f);
  const NamedTensor tensors[] = {{"weight", tensor}};
  WriteSafetensors(path_, tensors);
  const std::string whole = ReadBytes(path_);
  const size_t data_bytes = 24;
  for (size_t bit = 0; bit < 8 * (whole.size() - data_bytes); ++bit) {
    SCOPED_TRACE(bit);
    WriteBytes(path_, WithFlippedBit(whole, bit));
    try {
      const SafetensorsFile file(path_);
      for (const auto& [name, entry] : file.entries()) {
        ASSERT_LE(entry.end, whole.size());
        if (!entry.dtype) continue;
        const ConstTensorView view = file.Get(name);
        ASSERT_EQ(static_cast<size_t>(view.NumElements()) * SizeOf(view.dtype()), data_bytes);
      }
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidFile) << error.what();
    }
  }
}

}  // namespace
}  // namespace tamias
