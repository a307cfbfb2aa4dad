// The CLIP vision encoder and what prepares pictures for it, against transformers.
#include "models/vision/clip_vision_encoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/vision/clip_image_processor.h"
#include "tamias/device_memory.h"
#include "tests/support/dry_run_case.h"
#include "tests/support/fixture.h"

namespace tamias {
namespace {

// Parity of components is asked to 1e-4; fp32 rounding over two layers leaves about 1e-6.
constexpr double kTolerance = 1e-5;

std::string Case(int index, const std::string& name) { return std::to_string(index) + "." + name; }

class ClipVision : public testing::TestWithParam<const char*> {
 protected:
  Fixture fixture_{GetParam()};
};

TEST_P(ClipVision, EncoderAgreesWithTransformers) {
  const ClipVisionEncoder encoder(ClipVisionConfig::FromJson(fixture_.config), fixture_.weights);
  int index = 0;
  for (; fixture_.cases.Has(Case(index, "pixels")); ++index) {
    SCOPED_TRACE(index);
    Context context(2);
    const ConstTensorView expected = fixture_.cases.Get(Case(index, "hidden"));
    Tensor hidden(expected.shape(), DType::kF32);
    encoder.Encode(context, fixture_.cases.Get(Case(index, "pixels")), hidden);
    const double error = RelativeL2(hidden, expected);
    RecordProperty("relative_l2", std::to_string(error));
    EXPECT_LT(error, kTolerance);
    ExpectRunsDry([&](Context& run) {
      Tensor states = HostTensor(run, expected.shape(), DType::kF32);
      encoder.Encode(run, InContext(run, fixture_.cases.Get(Case(index, "pixels"))), states);
    });
  }
  EXPECT_EQ(index, 2);
}

TEST_P(ClipVision, ProcessorAgreesWithTransformers) {
  const auto processor = ClipImageProcessor::FromJson(
      JsonObject::Load(FixtureFolder(GetParam()) / "preprocessor_config.json"));
  int index = 0;
  for (; fixture_.cases.Has(Case(index, "picture")); ++index) {
    SCOPED_TRACE(index);
    const ConstTensorView picture = fixture_.cases.Get(Case(index, "picture"));
    const auto* rgb = picture.data<uint8_t>();
    const Tensor pixels = processor({static_cast<int>(picture.dim(1)),
                                     static_cast<int>(picture.dim(0)),
                                     {rgb, rgb + picture.NumElements()}});
    EXPECT_LT(RelativeL2(pixels, fixture_.cases.Get(Case(index, "processed"))), 1e-6);
  }
  EXPECT_EQ(index, 4);
}

INSTANTIATE_TEST_SUITE_P(, ClipVision,
                         testing::Values("clip-vision-tiny", "clip-vision-legacy-tiny"));

TEST(ClipVisionEncoder, RefusesWhatDoesNotFit) {
  const Fixture fixture("clip-vision-tiny");
  ClipVisionConfig config = ClipVisionConfig::FromJson(fixture.config);
  const ClipVisionEncoder encoder(config, fixture.weights);
  Context context;
  Tensor hidden({1, config.tokens(), config.hidden_size}, DType::kF32);
  EXPECT_THAT(ErrorOf([&] {
                encoder.Encode(context, Tensor::Zeros({1, 14, 15, 3}, DType::kF32), hidden);
              }),
              testing::HasSubstr("pixels"));
  --config.num_hidden_layers;
  EXPECT_THAT(ErrorOf([&] { ClipVisionEncoder(config, fixture.weights); }),
              testing::HasSubstr("config.json's field 'num_hidden_layers'"));
  ++config.num_hidden_layers;
  config.image_size = 20;
  EXPECT_THAT(ErrorOf([&] { ClipVisionEncoder(config, fixture.weights); }),
              testing::HasSubstr("embeddings.position_embedding.weight"));
}

std::string VisionError(const std::string& text) {
  return ErrorOf([&] { ClipVisionConfig::FromJson(JsonObject::Parse(text, "file")); });
}

TEST(ClipVisionConfig, RefusesBadFieldsByName) {
  EXPECT_THAT(VisionError(R"({"num_channels": 4})"), testing::HasSubstr("'num_channels'"));
  EXPECT_THAT(VisionError(R"({"image_size": 225})"), testing::HasSubstr("'patch_size'"));
  EXPECT_THAT(VisionError(R"({"image_size": 100000})"), testing::HasSubstr("'image_size'"));
  EXPECT_THAT(VisionError(R"({"num_attention_heads": 7})"),
              testing::HasSubstr("'num_attention_heads'"));
}

std::string ProcessorError(const std::string& text) {
  return ErrorOf([&] { ClipImageProcessor::FromJson(JsonObject::Parse(text, "file")); });
}

TEST(ClipImageProcessor, RefusesOtherStepsByName) {
  EXPECT_EQ(ProcessorError("{}"), "");
  EXPECT_EQ(ProcessorError(R"({"size": 336, "crop_size": 336})"), "");
  EXPECT_EQ(ProcessorError(R"({"do_center_crop": false})"),
            "file: field 'do_center_crop': only true is supported");
  EXPECT_EQ(ProcessorError(R"({"size": {"height": 224, "width": 224}})"),
            "file: field 'size': only 'shortest_edge' is supported");
  EXPECT_THAT(ProcessorError(R"({"size": {"shortest_edge": 100}})"),
              testing::HasSubstr("field 'crop_size'"));
  EXPECT_THAT(ProcessorError(R"({"crop_size": {"height": 224, "width": 112}})"),
              testing::HasSubstr("expected a square, found 224 x 112"));
  EXPECT_THAT(ProcessorError(R"({"resample": 2})"), testing::HasSubstr("field 'resample'"));
  EXPECT_THAT(ProcessorError(R"({"image_std": [1, 0, 1]})"), testing::HasSubstr("image_std"));
  EXPECT_THAT(ProcessorError(R"({"image_mean": [1, 0]})"), testing::HasSubstr("image_mean"));
}

}  // namespace
}  // namespace tamias
