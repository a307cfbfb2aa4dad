#include "tamias/weights.h"

#include <gmock/gmock.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <thread>

#include "io/safetensors.h"
#include "tests/support/bfloat16.h"
#include "tests/support/errors.h"
#include "tests/support/test_files.h"

namespace tamias {
namespace {

using ::testing::ElementsAre;

Tensor Filled(Shape shape, float value) {
  Tensor tensor(shape, DType::kF32);
  std::fill_n(tensor.data<float>(), tensor.NumElements(), value);
  return tensor;
}

void WriteFile(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors) {
  std::vector<NamedTensor> named;
  for (const auto& [name, tensor] : tensors) named.push_back({name, tensor});
  WriteSafetensors(path, named);
}

std::map<std::string, Tensor> Blocks() {
  std::map<std::string, Tensor> tensors;
  tensors["blocks.0.norm.weight"] = Filled({4}, 1);
  tensors["blocks.1.norm.weight"] = Filled({4}, 2);
  tensors["blocks.10.norm.weight"] = Filled({4}, 3);
  tensors["proj.weight"] = Filled({2, 3}, 4);
  return tensors;
}

void CheckBlocks(const Weights& weights) {
  EXPECT_EQ(weights.TotalParameters(), 18);
  EXPECT_EQ(weights.TotalBytes(), 72);
  EXPECT_EQ(weights.Get("proj.weight", {2, 3}).data<float>()[5], 4);
  EXPECT_TRUE(weights.Has("proj.weight"));
  EXPECT_FALSE(weights.Has("proj.bias"));
  EXPECT_THAT(weights.names(), ElementsAre("blocks.0.norm.weight", "blocks.1.norm.weight",
                                           "blocks.10.norm.weight", "proj.weight"));
  const Weights block = weights.Sub("blocks", 1);
  EXPECT_THAT(block.names(), ElementsAre("norm.weight"));
  EXPECT_EQ(block.TotalParameters(), 4);
  EXPECT_EQ(block.Sub("norm").Get("weight", {4}).data<float>()[0], 2);
  EXPECT_EQ(weights.Sub("blocks.10.norm").Get("weight").data<float>()[0], 3);
  EXPECT_THAT(weights.Sub("missing").names(), ElementsAre());
}

TEST(Weights, ReadsASingleFile) {
  for (const char* name : {"model.safetensors", "diffusion_pytorch_model.safetensors"}) {
    const TemporaryFolder folder;
    WriteFile(folder / name, Blocks());
    CheckBlocks(Weights::Open(folder.path()));
  }
}

void WriteShards(const TemporaryFolder& folder) {
  std::map<std::string, Tensor> first = Blocks(), second;
  second.insert(first.extract("proj.weight"));
  WriteFile(folder / "model-1-of-2.safetensors", first);
  WriteFile(folder / "model-2-of-2.safetensors", second);
}

constexpr std::string_view kIndex = R"({"metadata": {"total_size": 72}, "weight_map": {
  "blocks.0.norm.weight": "model-1-of-2.safetensors",
  "blocks.1.norm.weight": "model-1-of-2.safetensors",
  "blocks.10.norm.weight": "model-1-of-2.safetensors",
  "proj.weight": "model-2-of-2.safetensors"}})";

std::string Replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string result(text);
  const size_t at = result.find(from);
  EXPECT_NE(at, std::string::npos);
  return result.replace(at, from.size(), to);
}

TEST(Weights, ReadsShards) {
  const TemporaryFolder folder;
  WriteShards(folder);
  WriteBytes(folder / "model.safetensors.index.json", kIndex);
  CheckBlocks(Weights::Open(folder.path()));
}

TEST(Weights, ValidatesTheIndex) {
  const TemporaryFolder folder;
  WriteShards(folder);
  const auto fails = [&](std::string_view text, std::string_view index,
                         ErrorCode code = ErrorCode::kInvalidFile) {
    WriteBytes(folder / "model.safetensors.index.json", index);
    ExpectError(code, text, [&] { Weights::Open(folder.path()); });
  };
  for (const char* escape : {"../model.safetensors", "/etc/passwd", "sub/model.safetensors", "..",
                             "", "model.bin", "a\\u0000.safetensors"}) {
    fails("field 'weight_map.proj.weight': expected the name of a .safetensors file",
          Replaced(kIndex, "model-2-of-2.safetensors", escape));
  }
  fails("model-3-of-2.safetensors: cannot open", Replaced(kIndex, "model-2-of-2", "model-3-of-2"),
        ErrorCode::kNotFound);
  fails("field 'weight_map.proj.weight': expected a string, found 3",
        Replaced(kIndex, "\"model-2-of-2.safetensors\"", "3"));
  fails("field 'weight_map': missing", "{}");
  fails("field 'weight_map': expected an object", R"({"weight_map": []})");
  fails("field 'weight_map': names no file", R"({"weight_map": {}})");
}

// As diffusers and transformers: whole shards are read, whatever the index says of their tensors.
TEST(Weights, TakesShardsWhole) {
  const TemporaryFolder folder;
  WriteShards(folder);
  WriteBytes(folder / "model.safetensors.index.json", R"({"weight_map": {
    "blocks.0.norm.weight": "model-1-of-2.safetensors", "gone": "model-1-of-2.safetensors",
    "unknown": "model-2-of-2.safetensors"}})");
  const Weights weights = Weights::Open(folder.path());
  CheckBlocks(weights);
  EXPECT_FALSE(weights.Has("gone"));
  ExpectError(ErrorCode::kInvalidFile, "tensor 'gone': missing", [&] { weights.Get("gone", {4}); });
}

// A safetensors file of one-byte elements and doubles, which the writer does not write.
void WriteRaw(const std::filesystem::path& path, const nlohmann::json& header,
              std::string_view data) {
  const std::string text = header.dump();
  std::string bytes;
  for (size_t i = 0; i < 8; ++i) bytes += static_cast<char>((text.size() >> (8 * i)) & 0xFF);
  WriteBytes(path, bytes.append(text).append(data));
}

nlohmann::json Entry(const char* dtype, std::vector<int> shape, int begin, int end) {
  return {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {begin, end}}};
}

TEST(Weights, WidensOnFirstUse) {
  const TemporaryFolder folder;
  const double values[] = {0.1, -3e300};
  std::string data("\x38\x39\xC0\x01", 4);  // 1, 1.125, -2, 2^-9
  data.append(reinterpret_cast<const char*>(values), sizeof(values));
  WriteRaw(folder / "model.safetensors",
           {{"a.weight", Entry("F8_E4M3", {2, 2}, 0, 4)}, {"b.weight", Entry("F64", {2}, 4, 20)}},
           data);
  const Weights weights = Weights::Open(folder.path());
  EXPECT_EQ(weights.WidenedBytes(), 0);
  EXPECT_EQ(weights.TotalBytes(), 20);
  EXPECT_EQ(weights.MainDType(), DType::kBF16);
  const ConstTensorView a = weights.Get("a.weight", {2, 2});
  const auto* half = a.data<BFloat16>();
  EXPECT_THAT((std::vector{ToFloat(half[0]), ToFloat(half[1]), ToFloat(half[2]), ToFloat(half[3])}),
              ElementsAre(1, 1.125f, -2, 0x1p-9f));
  EXPECT_EQ(weights.WidenedBytes(), 8);
  EXPECT_EQ(weights.Sub("b").Get("weight", {2}).data<float>()[0], 0.1f);
  EXPECT_EQ(weights.Sub("a").WidenedBytes(), 8);
  EXPECT_EQ(weights.WidenedBytes(), 16);
  EXPECT_EQ(weights.Get("a.weight").raw(), a.raw());
  ExpectError(ErrorCode::kInvalidFile, "tensor 'b.weight': element 1 is not a finite number",
              [&] { weights.CheckFinite(Context(1)); });
}

TEST(Weights, ThreadsShareOneWiderCopy) {
  const TemporaryFolder folder;
  WriteRaw(folder / "model.safetensors", {{"a.weight", Entry("F8_E5M2", {300, 100}, 0, 30000)}},
           std::string(30000, '\x3C'));
  const Weights weights = Weights::Open(folder.path());
  std::vector<const void*> seen(8);
  std::vector<std::thread> threads;
  for (const void*& place : seen) {
    threads.emplace_back([&] { place = weights.Get("a.weight", {300, 100}).raw(); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(seen, ::testing::Each(seen.front()));
  EXPECT_EQ(weights.WidenedBytes(), 60000);
}

TEST(Weights, RefusesQuantisedWeightsWhenTheyAreAskedFor) {
  const TemporaryFolder folder;
  for (const char* scale :
       {"a.weight_scale", "a.scale_weight", "a.weight_scale_inv", "scaled_fp8"}) {
    SCOPED_TRACE(scale);
    WriteRaw(folder / "model.safetensors",
             {{"a.weight", Entry("F8_E4M3", {2}, 0, 2)}, {scale, Entry("F8_E5M2", {2}, 2, 4)}},
             "abcd");
    const Weights weights = Weights::Open(folder.path());
    ExpectError(ErrorCode::kUnsupported,
                "model.safetensors: tensor 'a.weight': F8_E4M3 with scales beside it: quantised",
                [&] { weights.Get("a.weight", {2}); });
    EXPECT_EQ(weights.names().size(), 2u);
    EXPECT_NO_THROW(weights.CheckFinite(Context(1)));
  }
  WriteRaw(folder / "model.safetensors",
           {{"a.weight", Entry("U8", {2, 1}, 0, 2)},
            {"b.weight", Entry("I8", {2}, 2, 4)},
            {"norm.weight", Entry("F8_E4M3", {1}, 4, 5)}},
           "abcd8");
  const Weights weights = Weights::Open(folder.path());
  ExpectError(ErrorCode::kUnsupported,
              "tensor 'a.weight': expected floating-point numbers, found u8: quantised weights",
              [&] {
                weights.Get("a.weight", {2, 2});
              });
  ExpectError(ErrorCode::kUnsupported, "tensor 'b.weight': element type I8 is not supported",
              [&] { weights.Get("b.weight", {2}); });
  EXPECT_EQ(weights.Get("norm.weight", {1}).dtype(), DType::kBF16);
}

// One tensor of every kind that no model reads, beside one that is read.
TEST(Weights, LeavesTensorsAloneThatNobodyAsksFor) {
  const TemporaryFolder folder;
  std::vector<int> rank_7(7, 1);
  WriteRaw(folder / "model.safetensors",
           {{"a", Entry("BOOL", {2}, 0, 2)},
            {"b", Entry("F99", {2}, 2, 5)},
            {"c", Entry("U8", rank_7, 5, 6)},
            {"d", Entry("I64", {0}, 6, 6)},
            {"w", Entry("F32", {1}, 6, 10)}},
           std::string("\1\1xyz\2\0\0\x80\x3F", 10));
  const Weights weights = Weights::Open(folder.path());
  EXPECT_EQ(weights.Get("w", {1}).data<float>()[0], 1);
  EXPECT_EQ(weights.MainDType(), DType::kF32);
  EXPECT_EQ(weights.DeviceBytes({{DeviceType::kCuda, 0}, DType::kF32}), 4u);
  EXPECT_NO_THROW(weights.CheckFinite(Context(1)));
  EXPECT_EQ(weights.TotalParameters(), 6);
  ExpectError(ErrorCode::kUnsupported, "tensor 'a': element type BOOL", [&] { weights.Get("a"); });
  ExpectError(ErrorCode::kUnsupported, "tensor 'c': 7 axes", [&] { weights.Get("c"); });
}

TEST(Weights, NamesFolderFileAndTensor) {
  const TemporaryFolder folder;
  ExpectError(ErrorCode::kNotFound, "none: no such folder",
              [&] { Weights::Open(folder / "none"); });
  ExpectError(ErrorCode::kNotFound, "no weights (", [&] { Weights::Open(folder.path()); });
  WriteFile(folder / "model.safetensors", Blocks());
  const Weights weights = Weights::Open(folder.path());
  EXPECT_EQ(weights.folder(), folder.path());
  ExpectError(ErrorCode::kInvalidFile, "tensor 'blocks.0.norm.bias': missing",
              [&] { weights.Sub("blocks", 0).Get("norm.bias", {4}); });
  ExpectError(ErrorCode::kInvalidFile,
              "model.safetensors: tensor 'blocks.0.norm.weight': expected shape [5], found [4]",
              [&] { weights.Sub("blocks", 0).Get("norm.weight", {5}); });
}

TEST(Weights, KeepTheMappingAlive) {
  const TemporaryFolder folder;
  WriteFile(folder / "model.safetensors", Blocks());
  const Weights sub = Weights::Open(folder.path()).Sub("proj");
  EXPECT_EQ(sub.Get("weight").data<float>()[0], 4);
}

TEST(Weights, CheckFiniteNamesTheTensorAndTheElement) {
  const TemporaryFolder folder;
  std::map<std::string, Tensor> tensors = Blocks();
  tensors["large"] = Filled({3, 1000003}, 0.5f);
  const auto check = [&] {
    WriteFile(folder / "model.safetensors", tensors);
    Weights::Open(folder.path()).CheckFinite(Context(2));
  };
  EXPECT_NO_THROW(check());
  tensors["large"].data<float>()[2500000] = std::numeric_limits<float>::infinity();
  ExpectError(ErrorCode::kInvalidFile,
              "model.safetensors: tensor 'large': element 2500000 is not a finite number", check);
  tensors["blocks.10.norm.weight"].data<float>()[3] = std::numeric_limits<float>::quiet_NaN();
  ExpectError(ErrorCode::kInvalidFile, "tensor 'blocks.10.norm.weight': element 3", check);
}

TEST(Weights, CheckFiniteKnowsEachFloatType) {
  const TemporaryFolder folder;
  const auto check = [&](Tensor tensor) {
    std::map<std::string, Tensor> tensors;
    tensors["w"] = std::move(tensor);
    WriteFile(folder / "model.safetensors", tensors);
    Weights::Open(folder.path()).CheckFinite(Context(1));
  };
  const auto half = [](DType dtype, uint16_t bits) {
    Tensor tensor = Tensor::Zeros({5}, dtype);
    static_cast<uint16_t*>(tensor.view().raw())[4] = bits;
    return tensor;
  };
  EXPECT_NO_THROW(check(half(DType::kF16, 0x7BFF)));
  EXPECT_NO_THROW(check(half(DType::kBF16, 0x7F7F)));
  for (const uint16_t bits : {uint16_t{0x7C00}, uint16_t{0xFC00}, uint16_t{0x7E00}}) {
    ExpectError(ErrorCode::kInvalidFile, "'w': element 4", [&] { check(half(DType::kF16, bits)); });
  }
  for (const uint16_t bits : {uint16_t{0x7F80}, uint16_t{0xFF80}, uint16_t{0x7FC0}}) {
    ExpectError(ErrorCode::kInvalidFile, "'w': element 4",
                [&] { check(half(DType::kBF16, bits)); });
  }
  Tensor integers = Tensor::Zeros({2}, DType::kI32);
  integers.data<int32_t>()[0] = 0x7F800000;
  EXPECT_NO_THROW(check(std::move(integers)));
}

TEST(WeightsInBFloat16, OnTheCpuOnlyOthersAreCopied) {
  const TemporaryFolder folder;
  const Tensor floats = Filled({2, 3}, 1.0f + 0x1p-7f + 0x1p-9f);
  const Tensor halves = InBFloat16(Filled({4}, 3));
  const NamedTensor tensors[] = {{"a", floats}, {"b", halves}};
  WriteSafetensors(folder.path() / "model.safetensors", tensors);
  const Weights files = Weights::Open(folder.path());
  const Context context(BFloat16OnCpu(), 1);
  const Weights copied = files.CopyToDevice(context);
  EXPECT_EQ(ToFloat(copied.Get("a", {2, 3}).data<BFloat16>()[5]), 1.0f + 0x1p-7f);
  EXPECT_EQ(copied.Get("b", {4}).raw(), files.Get("b").raw());
  EXPECT_EQ(files.DeviceBytes(context.placement()), size_t{2 * 3 * 2});
  EXPECT_EQ(files.DeviceBytes({}), size_t{4 * 4});  // what f32 would take
  const Weights planned = files.CopyToDevice(Context::Planning(BFloat16OnCpu()));
  EXPECT_EQ(planned.Get("a").dtype(), DType::kBF16);
}

// Matrices of blocks: neither other matrices nor other tensors of blocks.
TEST(WeightsIn8Bits, AreTheMatricesOfBlocks) {
  const TemporaryFolder folder;
  const Tensor matrix = Filled({4, 6}, 3), vector = Filled({4}, 1), kernel = Filled({4, 2, 3}, 1);
  const NamedTensor tensors[] = {{"transformer_blocks.1.ff.net.2.weight", matrix},
                                 {"blocks.0.norm.weight", vector},
                                 {"blocks.0.conv.weight", kernel},
                                 {"blocks.0.table", matrix},
                                 {"blocks.norm.weight", matrix},
                                 {"proj_out.weight", matrix}};
  WriteSafetensors(folder.path() / "model.safetensors", tensors);
  const Weights files = Weights::Open(folder.path());
  Placement placement;
  placement.weight_dtype = DType::kF8E4M3;
  const Context context(placement, 1);
  const Weights copied = files.CopyToDevice(context);
  for (const std::string& name : files.names()) {
    const bool is_narrow = name == "transformer_blocks.1.ff.net.2.weight";
    const ConstTensorView found = copied.Get(name, files.Get(name).shape());
    EXPECT_EQ(found.dtype(), is_narrow ? DType::kF8E4M3 : DType::kF32) << name;
    EXPECT_EQ(found.row_scales() != nullptr, is_narrow) << name;
  }
  const ConstTensorView narrow = copied.Get("transformer_blocks.1.ff.net.2.weight");
  EXPECT_EQ(narrow.row_scales()[3], 0x1p-7f);  // 3 = 2^-7 384
  EXPECT_EQ(ToFloat(narrow.data<Float8E4M3>()[23]), 384);
  const std::vector<std::string> blocks = {"transformer_blocks.1"};
  EXPECT_EQ(files.DeviceBytes(placement), size_t{4 * 6 + 4 * 4});
  EXPECT_EQ(files.PinnedBytes(placement, blocks), size_t{2 * 256});  // of whole vectors each
  const Weights planned = files.CopyToDevice(Context::Planning(placement));
  EXPECT_NE(planned.Get("transformer_blocks.1.ff.net.2.weight").row_scales(), nullptr);
}

TEST(WeightsIn8Bits, NamesTheElementThatIsNotFinite) {
  const TemporaryFolder folder;
  Tensor matrix = Filled({4, 6}, 3);
  matrix.data<float>()[9] = std::numeric_limits<float>::quiet_NaN();
  const NamedTensor tensors[] = {{"blocks.0.to_q.weight", matrix}};
  WriteSafetensors(folder.path() / "model.safetensors", tensors);
  Placement placement;
  placement.weight_dtype = DType::kF8E4M3;
  ExpectError(ErrorCode::kInvalidFile, "tensor 'blocks.0.to_q.weight': element 9 is not",
              [&] { Weights::Open(folder.path()).CopyToDevice(Context(placement, 1)); });
}

}  // namespace
}  // namespace tamias
