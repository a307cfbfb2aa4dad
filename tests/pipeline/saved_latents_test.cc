// Results that are handed out as they are finished, and latents that are written, read and decoded.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "base/check.h"
#include "io/safetensors.h"
#include "tamias/dtype.h"
#include "tests/support/linked_model.h"

namespace tamias {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// A folder for files; pictures are made by the demo model.
class SavedLatentsTest : public LinkedModelTest {
 protected:
  SavedLatentsTest() : LinkedModelTest("saved-latents") {
    options_.prompt = "a small blue heart at the top on a grey background";
    options_.width = 64;
    options_.height = 48;
    options_.steps = 2;
    options_.sparsity = "off";
    options_.seed = 4;
  }

  // The message of the error that decoding ends in, with its code in front; empty without one.
  std::string DecodeError(const SavedLatents& latents, const GenerateOptions& options = {}) const {
    return Message([&] { pipeline_.Decode(latents, options); });
  }
  std::string ReadError(const fs::path& path) const {
    return Message([&] { ReadLatents(path); });
  }
  static std::string Message(const std::function<void()>& body) {
    try {
      body();
    } catch (const Error& error) {
      return fmt::format("{}: {}", static_cast<int>(error.code()), error.what());
    }
    return "";
  }

  // Two pictures' worth of the right shape.
  SavedLatents Made() const {
    SavedLatents saved;
    saved.latents.assign(2, {48, 32, std::vector<float>(size_t{48} * 32, 0.25f)});
    saved.text = pipeline_.LatentsText(options_);
    return saved;
  }
  fs::path Write(const std::string& name, const std::vector<NamedTensor>& tensors,
                 const std::map<std::string, std::string>& text = {}) const {
    WriteSafetensors(folder_ / name, tensors, text);
    return folder_ / name;
  }

  Pipeline pipeline_{kDemoModel};
  GenerateOptions options_;
};

TEST_F(SavedLatentsTest, ResultsAreHandedOutAsTheyAreFinished) {
  options_.num_images = 2;
  std::vector<std::string> calls;
  options_.on_latents = [&](const GenerateResult& so_far, int image) {
    calls.push_back(
        fmt::format("latents {}: {} {}", image, so_far.latents.size(), so_far.images.size()));
  };
  options_.on_result = [&](const GenerateResult& so_far, int image) {
    calls.push_back(
        fmt::format("result {}: {} {}", image, so_far.latents.size(), so_far.images.size()));
    EXPECT_THAT(so_far.report_json, HasSubstr("\"image\": " + std::to_string(image)));
    EXPECT_THAT(so_far.report_json, Not(HasSubstr("\"image\": " + std::to_string(image + 1))));
  };
  const GenerateResult result = pipeline_.Generate(options_);
  EXPECT_THAT(calls,
              ElementsAre("latents 0: 1 0", "result 0: 1 1", "latents 1: 2 1", "result 1: 2 2"));
  EXPECT_THAT(result.images, SizeIs(2));
}

TEST_F(SavedLatentsTest, LatentsAreThereWhenDecodingIsStopped) {
  std::vector<Latents> latents;
  options_.on_latents = [&](const GenerateResult& so_far, int) { latents = so_far.latents; };
  const auto stop = [](const Progress& progress) { return progress.stage != Stage::kDecode; };
  EXPECT_THAT(Message([&] { pipeline_.Generate(options_, stop); }), HasSubstr("interrupted"));
  ASSERT_THAT(latents, SizeIs(1));
  EXPECT_EQ(pipeline_.Decode({latents, pipeline_.LatentsText(options_), {}}, {}).images[0].rgb,
            pipeline_.Generate(options_).images[0].rgb);
}

TEST_F(SavedLatentsTest, WhatACallbackThrowsEndsTheGeneration) {
  options_.on_result = [](const GenerateResult&, int) { Fail(ErrorCode::kIo, "no place"); };
  EXPECT_EQ(Message([&] { pipeline_.Generate(options_); }), "4: no place");
  options_.on_latents = [](const GenerateResult&, int) { throw std::bad_alloc(); };
  EXPECT_THAT(Message([&] { pipeline_.Generate(options_); }), HasSubstr("5: out of memory ("));
}

TEST_F(SavedLatentsTest, PicturesOfAFileAreThoseOfTheGeneration) {
  options_.num_images = 2;
  const GenerateResult result = pipeline_.Generate(options_);
  const fs::path path = folder_ / "latents.safetensors";
  WriteLatents(path, result.latents, pipeline_.LatentsText(options_));
  const SavedLatents saved = ReadLatents(path);
  ASSERT_THAT(saved.latents, SizeIs(2));
  std::vector<int> images;
  GenerateOptions options;
  options.on_result = [&](const GenerateResult&, int image) { images.push_back(image); };
  const GenerateResult decoded = pipeline_.Decode(saved, options);
  EXPECT_THAT(images, ElementsAre(0, 1));
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(saved.latents[i].values, result.latents[i].values);
    EXPECT_EQ(decoded.images[i].rgb, result.images[i].rgb);
    const int image = static_cast<int>(i);
    EXPECT_EQ(pipeline_.PngText(saved, image), pipeline_.PngText(options_, image));
  }
  // One of a batch in a file of its own keeps its number.
  WriteLatents(path, {result.latents[1]}, pipeline_.LatentsText(options_, 1));
  EXPECT_EQ(pipeline_.PngText(ReadLatents(path), 0), pipeline_.PngText(options_, 1));
}

TEST_F(SavedLatentsTest, FilmsOfAFileAreThoseOfTheGeneration) {
  const fs::path tiny = fs::path(TAMIAS_TEST_DATA) / "pipeline/tiny-wan";
  LinkAll({"model_index.json", "transformer", "text_encoder", "vae", "scheduler"}, tiny);
  Link("tokenizer", kDemoModel / "tokenizer_2");
  const Pipeline wan(folder_);
  options_.num_frames = 9;
  options_.fps = 12.5;
  options_.max_sequence_length = 40;
  const GenerateResult result = wan.Generate(options_);
  const fs::path path = folder_ / "latents.safetensors";
  WriteLatents(path, result.latents, wan.LatentsText(options_));
  const GenerateResult decoded = wan.Decode(ReadLatents(path), {});
  ASSERT_THAT(decoded.videos, SizeIs(1));
  EXPECT_EQ(decoded.videos[0].fps, 12.5);
  ASSERT_THAT(decoded.videos[0].frames, SizeIs(9));
  for (size_t i = 0; i < 9; ++i) {
    EXPECT_EQ(decoded.videos[0].frames[i].rgb, result.videos[0].frames[i].rgb);
  }
  EXPECT_THAT(
      DecodeError(ReadLatents(path)),
      AllOf(HasSubstr("2: " + path.string()), HasSubstr("WanPipeline"), HasSubstr("FluxPipeline")));
  SavedLatents others = ReadLatents(path);
  others.text.clear();
  GenerateOptions options;
  options.width = 64;
  options.height = 48;
  EXPECT_THAT(Message([&] { wan.Decode(others, options); }), HasSubstr("1: num_frames: "));
  options.num_frames = 5;
  EXPECT_THAT(Message([&] { wan.Decode(others, options); }), HasSubstr("and 5 frames"));
  options.num_frames = 9;
  EXPECT_EQ(wan.Decode(others, options).videos[0].fps, 16);  // the model's
}

TEST_F(SavedLatentsTest, SizesOfOptionsAndFileMustFitTheLatents) {
  EXPECT_EQ(DecodeError(Made()), "");
  SavedLatents made = Made();
  GenerateOptions options;
  options.width = 128;
  EXPECT_THAT(DecodeError(made, options), AllOf(HasSubstr("2: latents: found latents of [48, 32]"),
                                                HasSubstr("[96, 32]"), HasSubstr("128x48 pixels")));
  options.width = 63;
  EXPECT_THAT(DecodeError(made, options), HasSubstr("1: width: "));
  options.width = 1 << 20;
  options.height = 1 << 20;
  EXPECT_THAT(DecodeError(made, options), HasSubstr("5: 1048576x1048576 pixels are "));
  made.text.erase("width");
  EXPECT_THAT(DecodeError(made), HasSubstr("1: width: latents does not say it"));
  made.text["width"] = "6x";
  EXPECT_THAT(DecodeError(made), HasSubstr("2: latents: metadata 'width': expected a number"));
  made.text["width"] = "-64";
  EXPECT_THAT(DecodeError(made), HasSubstr("1: width: "));
  made.text.clear();
  options.width = 64;
  options.height = 48;
  EXPECT_EQ(DecodeError(made, options), "");
  options.num_frames = 5;
  EXPECT_THAT(DecodeError(made, options), HasSubstr("makes pictures"));
}

TEST_F(SavedLatentsTest, HostileLatentsAreRefused) {
  SavedLatents made = Made();
  made.path = "x.safetensors";
  made.latents[1].values[7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(DecodeError(made), HasSubstr("2: x.safetensors: the latents are infinite or not"));
  made.latents[1].values[7] = std::numeric_limits<float>::infinity();
  EXPECT_THAT(DecodeError(made), HasSubstr("2: x.safetensors: the latents are infinite or not"));
  made.latents[1].values.pop_back();
  EXPECT_THAT(DecodeError(made), HasSubstr("expected 1536 numbers, found 1535"));
  made.latents[1].tokens = 47;
  EXPECT_THAT(DecodeError(made), HasSubstr("[47, 32]"));
  made.latents.clear();
  EXPECT_THAT(DecodeError(made), HasSubstr("2: x.safetensors: no latents"));
}

TEST_F(SavedLatentsTest, OtherFilesAreReadBySoleTensorAndType) {
  Tensor f16({1, 48, 32}, DType::kF16);
  for (int64_t i = 0; i < f16.view().NumElements(); ++i) f16.data<Float16>()[i] = ToFloat16(0.5f);
  const fs::path path = Write("f16.safetensors", {{"final", f16.view()}});
  const SavedLatents saved = ReadLatents(path);
  ASSERT_THAT(saved.latents, SizeIs(1));
  EXPECT_THAT(saved.latents[0].values, testing::Each(0.5f));
  EXPECT_THAT(saved.text, IsEmpty());

  const Tensor flat = Tensor::Zeros({48, 32}, DType::kF32),
               empty = Tensor::Zeros({1, 0, 32}, DType::kF32),
               whole = Tensor::Zeros({1, 48, 32}, DType::kF32);
  const Tensor bytes({1, 48, 32}, DType::kU8);
  EXPECT_THAT(ReadError(Write("two", {{"a", whole.view()}, {"b", whole.view()}})),
              AllOf(HasSubstr("2: "), HasSubstr("two: expected the tensor 'latents' or a single")));
  EXPECT_EQ(ReadError(Write("named", {{"a", flat.view()}, {"latents", whole.view()}})), "");
  EXPECT_THAT(ReadError(Write("none", {})), HasSubstr("none: expected the tensor"));
  EXPECT_THAT(
      ReadError(Write("flat", {{"latents", flat.view()}})),
      HasSubstr("flat: tensor 'latents': expected packed latents [images, tokens, channels], "
                "found [48, 32]"));
  EXPECT_THAT(ReadError(Write("empty", {{"latents", empty.view()}})),
              HasSubstr("found [1, 0, 32]"));
  EXPECT_THAT(ReadError(Write("bytes", {{"latents", bytes.view()}})),
              HasSubstr("7: " + (folder_ / "bytes").string() + ": tensor 'latents': expected F32"));
  EXPECT_THAT(ReadError(folder_ / "nowhere"), HasSubstr("3: "));
}

TEST_F(SavedLatentsTest, TextOfStrangersIsTakenOnlyWhereItCanBe) {
  SavedLatents made = Made();
  const auto text = [&](const char* settings) {
    made.text["tamias"] = settings;
    return pipeline_.PngText(made, 1);
  };
  for (const char* settings : {"", "{", "[1]", "null", "\"\"", "\xff"}) {
    EXPECT_THAT(text(settings), SizeIs(1)) << settings;
  }
  EXPECT_EQ(text("{\"prompt\": 3}").count("Description"), 0);
  EXPECT_EQ(text("{\"prompt\": \"a\\u0000b\"}").count("Description"), 0);
  EXPECT_EQ(text("{\"image\": \"x\"}").at("tamias"), "{\"image\":1}");
  EXPECT_EQ(text("{\"image\": -7}").at("tamias"), "{\"image\":1}");
  EXPECT_EQ(text("{\"prompt\": \"p\", \"image\": 2}").at("tamias"),
            "{\"prompt\":\"p\",\"image\":3}");
}

TEST_F(SavedLatentsTest, DecodingIsPlannedWithoutTheDenoiser) {
  SavedLatents made = Made();
  GenerateOptions options;
  options.max_memory_bytes = 1 << 20;
  EXPECT_THAT(DecodeError(made, options),
              AllOf(HasSubstr("5: 64x48 pixels need "), HasSubstr("max_memory is 1 MiB")));
  const GenerateResult result = pipeline_.Decode(made, {});
  EXPECT_LT(result.planned_memory_bytes, pipeline_.PlanMemory(options_).peak_bytes);
  EXPECT_THAT(result.report_json, HasSubstr("\"steps\": []"));
}

}  // namespace
}  // namespace tamias
