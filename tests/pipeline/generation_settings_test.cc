#include "pipeline/generation_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/support/errors.h"

namespace tamias {
namespace {

using testing::HasSubstr;

TEST(GenerationSettings, OptionsWinOverTheModelAndTheModelOverTheFamily) {
  ModelDefaults model;
  model.width = 512;
  model.steps = 40;
  GenerateOptions options;
  options.steps = 7;
  const GenerationSettings settings =
      ResolveSettings(options, model, {.width = 768, .height = 768});
  EXPECT_EQ(settings.width, 512);
  EXPECT_EQ(settings.height, 768);
  EXPECT_EQ(settings.steps, 7);
}

std::string Refusal(const GenerateOptions& options) {
  return ArgumentErrorOf([&] { ResolveSettings(options, {}, {}); });
}

TEST(GenerationSettings, RefusesValuesOutOfRangeAndNamesThem) {
  const auto with = [](auto member, auto value) {
    GenerateOptions options;
    options.*member = value;
    return Refusal(options);
  };
  EXPECT_THAT(with(&GenerateOptions::width, 1000), HasSubstr("width: expected a multiple of 16"));
  EXPECT_THAT(with(&GenerateOptions::height, 0), HasSubstr("height"));
  EXPECT_THAT(with(&GenerateOptions::width, 1 << 24), HasSubstr("width"));
  EXPECT_THAT(with(&GenerateOptions::steps, 1001), HasSubstr("steps: expected a number from 1"));
  EXPECT_THAT(with(&GenerateOptions::num_images, 0), HasSubstr("num_images"));
  EXPECT_THAT(with(&GenerateOptions::threads, -1), HasSubstr("threads"));
  EXPECT_THAT(with(&GenerateOptions::max_sequence_length, 513), HasSubstr("max_sequence_length"));
  EXPECT_THAT(with(&GenerateOptions::true_cfg_scale, std::numeric_limits<double>::quiet_NaN()),
              HasSubstr("true_cfg_scale"));
  EXPECT_THAT(with(&GenerateOptions::prompt, std::string((1 << 20) + 1, 'a')), HasSubstr("prompt"));
}

TEST(GenerationSettings, FramesAreOneMoreThanAMultiple) {
  const FamilyDefaults film = {.num_frames = 33, .frame_multiple = 4, .fps = 15};
  GenerateOptions options;
  EXPECT_EQ(ResolveSettings(options, {}, film).num_frames, 33);
  options.num_frames = 1;
  EXPECT_EQ(ResolveSettings(options, {}, film).num_frames, 1);
  const auto refusal = [&](int frames) {
    options.num_frames = frames;
    return ErrorOf([&] { ResolveSettings(options, {}, film); });
  };
  EXPECT_THAT(refusal(32), HasSubstr("one more than a multiple of 4, found 32 (nearest: 33)"));
  EXPECT_THAT(refusal(0), HasSubstr("num_frames"));
  EXPECT_THAT(refusal(1 << 20), HasSubstr("num_frames"));
  options.num_frames = 33;
  options.fps = 0;
  EXPECT_THROW(ResolveSettings(options, {}, film), Error);
}

TEST(GenerationSettings, TheScaleOfTheSecondTransformerIsTheFirstsUnlessGiven) {
  const FamilyDefaults experts = {.true_cfg_scale = 5, .has_experts = true};
  GenerateOptions options;
  ModelDefaults model;
  EXPECT_EQ(ResolveSettings(options, model, experts).true_cfg_scale_2, 5);
  options.true_cfg_scale = 4;
  EXPECT_EQ(ResolveSettings(options, model, experts).true_cfg_scale_2, 4);
  model.true_cfg_scale_2 = 3;
  EXPECT_EQ(ResolveSettings(options, model, experts).true_cfg_scale_2, 3);
  options.true_cfg_scale_2 = 2;
  EXPECT_EQ(ResolveSettings(options, model, experts).true_cfg_scale_2, 2);
  EXPECT_EQ(Refusal(options), "true_cfg_scale_2: this model has one transformer");
  options.true_cfg_scale_2 = 1001;
  EXPECT_THAT(ErrorOf([&] { ResolveSettings(options, model, experts); }),
              HasSubstr("true_cfg_scale_2: expected a number from 0"));
}

// What nobody asked for is never refused.
TEST(GenerationSettings, DefaultsFitTheModel) {
  const FamilyDefaults film = {.width = 1280,
                               .height = 720,
                               .max_sequence_length = 600,
                               .num_frames = 129,
                               .frame_multiple = 6,
                               .fps = 24,
                               .size_multiple = 32};
  const GenerationSettings settings = ResolveSettings({}, {}, film);
  EXPECT_EQ(settings.width, 1280);
  EXPECT_EQ(settings.height, 704);
  EXPECT_EQ(settings.num_frames, 127);
  EXPECT_EQ(settings.max_sequence_length, 512);
  ModelDefaults model;
  model.width = 7;
  model.height = 100;
  model.num_frames = 8;
  EXPECT_EQ(SizeText(ResolveSettings({}, model, film)), "32x96 pixels and 7 frames");
  GenerateOptions options;
  options.width = 96;
  EXPECT_EQ(ResolveSettings(options, {}, film).height, 704);
  options.height = 720;
  EXPECT_THROW(ResolveSettings(options, {}, film), Error);
}

TEST(GenerationSettings, ModelsOfPicturesRefuseFrames) {
  GenerateOptions options;
  options.num_frames = 5;
  EXPECT_THAT(Refusal(options), HasSubstr("num_frames: this model makes pictures"));
  options.num_frames = 1;
  EXPECT_EQ(ResolveSettings(options, {}, {}).num_frames, 1);
  options.fps = 24;
  EXPECT_THAT(Refusal(options), HasSubstr("fps: this model makes pictures"));
}

}  // namespace
}  // namespace tamias
