// The whole Mochi 1 pipeline against diffusers: same folder, prompt, seed, size and steps.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/support/golden.h"
#include "tests/support/linked_model.h"

namespace tamias {
namespace {

const fs::path kTiny = fs::path(TAMIAS_TEST_DATA) / "pipeline/tiny-mochi";

// tiny-mochi with the T5 of the demo model.
class MochiPipeline : public LinkedModelTest {
 protected:
  MochiPipeline() : LinkedModelTest("tiny-mochi") { LinkMochi(); }

  // The first golden case: an empty negative prompt, of which nothing is left.
  static GenerateOptions Options() {
    GenerateOptions options;
    options.prompt = SafetensorsFile(kTiny / "empty-negative.safetensors").metadata().at("prompt");
    options.width = 80;
    options.height = 48;
    options.num_frames = 13;
    options.steps = 5;
    options.true_cfg_scale = 4.5;
    options.seed = 11;
    options.sparsity = "off";
    return options;
  }

  static void ExpectGolden(const GenerateResult& result, const std::string& name) {
    const SafetensorsFile golden(kTiny / (name + ".safetensors"));
    ExpectLatents(result, golden.Get("latents"));
    ASSERT_EQ(result.videos.size(), result.latents.size());
    ExpectFrames(result.videos[0].frames, golden.Get("frames"));
  }
};

TEST_F(MochiPipeline, FilmWithAnEmptyNegativePromptMatchesDiffusers) {
  const GenerateResult result = Pipeline(folder_).Generate(Options());
  ExpectGolden(result, "empty-negative");
  EXPECT_EQ(result.videos[0].fps, 30);
}

TEST_F(MochiPipeline, TwoFilmsWithANegativePromptAndACutPromptMatchDiffusers) {
  GenerateOptions options = Options();
  options.negative_prompt = "a grey circle";
  options.width = 48;
  options.height = 32;
  options.num_frames = 7;
  options.steps = 4;
  options.true_cfg_scale = 2.5;
  options.max_sequence_length = 14;
  options.num_images = 2;
  options.seed = 5;
  const Pipeline pipeline(folder_);
  EXPECT_THAT(pipeline.Warnings(options), testing::ElementsAre(testing::HasSubstr("14 tokens")));
  ExpectGolden(pipeline.Generate(options), "two-films");
}

// Every column selected, in voxel order with tails: nothing may change.
TEST_F(MochiPipeline, SparseStepsThatSelectEverythingMatchDiffusers) {
  GenerateOptions options = Options();
  options.sparsity = "mochi";
  options.overrides = kSelectEverything;
  options.overrides.push_back("patchify.is_enabled=true");
  const GenerateResult result = Pipeline(folder_).Generate(options);
  EXPECT_THAT(result.report_json, testing::HasSubstr("sparse"));
  ExpectGolden(result, "empty-negative");
}

TEST_F(MochiPipeline, SayWhichSizesItMakes) {
  GenerateOptions options = Options();
  options.num_frames = 12;
  EXPECT_EQ(ErrorOf(options),
            "num_frames: expected one more than a multiple of 6, found 12 (nearest: 13)");
  options = Options();
  options.num_frames = 0;
  EXPECT_THAT(ErrorOf(options), testing::HasSubstr("num_frames"));
  options = Options();
  options.width = 88;
  EXPECT_EQ(ErrorOf(options), "width: expected a multiple of 16, found 88 (nearest: 96)");
  options = Options();
  options.steps = 1;
  EXPECT_THAT(ErrorOf(options), testing::HasSubstr("steps: the linear-quadratic schedule needs"));
  options = Options();
  options.width = options.height = 1 << 20;
  EXPECT_THAT(ErrorOf(options), testing::HasSubstr("no machine has the memory"));
}

TEST_F(MochiPipeline, NamesComponentsThatDoNotFitEachOther) {
  Link("text_encoder", kDemoModel / "text_encoder");  // CLIP
  EXPECT_THAT(ErrorOf(Options()), testing::HasSubstr("text_encoder"));
  fs::remove(folder_ / "text_encoder");
  EXPECT_THAT(ErrorOf(Options()), testing::HasSubstr("text_encoder"));
}

TEST_F(MochiPipeline, TakesTheFamilysDefaults) {
  const Pipeline pipeline(folder_);
  EXPECT_TRUE(pipeline.info().makes_videos);
  EXPECT_EQ(pipeline.info().default_profile, "mochi");
  EXPECT_EQ(pipeline.info().defaults.width, 848);
  EXPECT_EQ(pipeline.info().defaults.height, 480);
  EXPECT_EQ(pipeline.info().defaults.num_frames, 19);
  EXPECT_EQ(pipeline.info().defaults.fps, 30);
  GenerateOptions headline;
  headline.num_frames = 163;
  EXPECT_EQ(pipeline.NumImageTokens(headline), 28 * 30 * 53);
}

}  // namespace
}  // namespace tamias
