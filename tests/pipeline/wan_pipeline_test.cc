// The whole Wan pipeline against diffusers: same folder, prompt, seed, size and steps.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tamias/error.h"
#include "tests/support/golden.h"
#include "tests/support/linked_model.h"

namespace tamias {
namespace {

const fs::path kData = fs::path(TAMIAS_TEST_DATA) / "pipeline/tiny-wan";

// A checkpoint folder of links to the fixture's components and the demo model's tokenizer.
class WanPipelineTest : public LinkedModelTest {
 protected:
  WanPipelineTest() : LinkedModelTest("tiny-wan") { LinkWan("tiny-wan"); }

  GenerateOptions GoldenOptions() const {
    GenerateOptions options;
    options.prompt = golden_.metadata().at("prompt");
    options.negative_prompt = golden_.metadata().at("negative_prompt");
    options.true_cfg_scale = 3;
    options.width = 48;
    options.height = 64;
    options.num_frames = 9;
    options.steps = 6;
    options.max_sequence_length = 40;
    options.seed = 11;
    options.sparsity = "off";
    return options;
  }

  SafetensorsFile golden_{kData / "golden.safetensors"};
};

TEST_F(WanPipelineTest, UniPcLatentsAndFramesMatchDiffusers) {
  const GenerateResult result = Pipeline(folder_).Generate(GoldenOptions());
  ExpectFilm(result, golden_, 16);
}

TEST_F(WanPipelineTest, LatentsOfEverySchedulerMatchDiffusers) {
  GenerateOptions options = GoldenOptions();
  options.decode = false;
  for (const auto& [name, class_name] : {std::pair{"euler", "FlowMatchEulerDiscreteScheduler"},
                                         {"heun", "FlowMatchHeunDiscreteScheduler"},
                                         {"lcm", "FlowMatchLCMScheduler"},
                                         {"dpm", "DPMSolverMultistepScheduler"},
                                         {"dpm-sde", "DPMSolverMultistepScheduler"}}) {
    SCOPED_TRACE(name);
    UseScheduler("WanPipeline", class_name, kData / (std::string("scheduler-") + name));
    const Pipeline pipeline(folder_);
    EXPECT_EQ(pipeline.info().scheduler, class_name);
    const GenerateResult result = pipeline.Generate(options);
    ExpectLatents(result, golden_.Get(std::string(name) + "_latents"));
    EXPECT_TRUE(result.videos.empty());
  }
}

TEST_F(WanPipelineTest, HeunCallsTheModelTwiceAStep) {
  UseScheduler("WanPipeline", "FlowMatchHeunDiscreteScheduler", kData / "scheduler-heun");
  GenerateOptions options = GoldenOptions();
  options.decode = false;
  options.sparsity = "wan-2.1";
  options.overrides = {"step_caching.is_enabled=false"};
  const Pipeline pipeline(folder_);
  EXPECT_EQ(pipeline.NumSteps(options), 11);
  int last = 0;
  const GenerateResult result = pipeline.Generate(options, [&](const Progress& progress) {
    if (progress.stage == Stage::kDenoise) {
      EXPECT_EQ(progress.num_steps, 11);
      last = progress.step;
    }
    return true;
  });
  EXPECT_EQ(last, 11);
  EXPECT_THAT(result.report_json, testing::ContainsRegex("\"step\": ?10"));
  options.overrides.clear();  // with the profile's schedule of skipped steps
  EXPECT_THAT(pipeline.Warnings(options),
              testing::Contains(testing::HasSubstr("this generation has 11")));
}

TEST_F(WanPipelineTest, TheIndexNamesTheSchedulerAndTheConfigsClassIsSaid) {
  UseScheduler("WanPipeline", "FlowMatchEulerDiscreteScheduler", kData / "scheduler");  // UniPC's
  const Pipeline pipeline(folder_);
  EXPECT_EQ(pipeline.info().scheduler, "FlowMatchEulerDiscreteScheduler");
  EXPECT_THAT(pipeline.Warnings(GoldenOptions()),
              testing::Contains(testing::HasSubstr("was written by UniPCMultistepScheduler")));
}

TEST_F(WanPipelineTest, NoiseOfTheStepsIsPlanned) {
  GenerateOptions options = GoldenOptions();
  options.num_images = 3;
  UseScheduler("WanPipeline", "FlowMatchEulerDiscreteScheduler", kData / "scheduler-euler");
  const MemoryPlan plain = Pipeline(folder_).PlanMemory(options);
  UseScheduler("WanPipeline", "FlowMatchLCMScheduler", kData / "scheduler-lcm");
  const MemoryPlan noisy = Pipeline(folder_).PlanMemory(options);
  // Five more tensors of the latents' size: kept by the scheduler, and drawn for three films.
  const size_t latents = sizeof(float) * 36 * 16;
  const auto planned = [](const MemoryPlan& plan) {
    size_t bytes = 0;
    for (const MemoryEntry& entry : plan.entries) {
      // What the process held before the model was loaded, which differs between the two.
      if (entry.name != "program and libraries") bytes += entry.bytes;
    }
    return bytes;
  };
  EXPECT_EQ(planned(noisy) - planned(plain), 5 * latents);
}

TEST_F(WanPipelineTest, SparseGenerationThatSelectsEverythingMatchesDiffusers) {
  GenerateOptions options = GoldenOptions();
  options.decode = false;
  options.sparsity = "wan-2.1";
  options.overrides = {"attn.top_keys=1", "attn.first_n_dense_layers=0",
                       "step_caching.is_enabled=false"};
  const GenerateResult result = Pipeline(folder_).Generate(options);
  ExpectLatents(result, golden_.Get("latents"));
  EXPECT_THAT(result.report_json, testing::ContainsRegex("\"kind\": ?\"sparse\""));
}

TEST_F(WanPipelineTest, InvocationsDoNotSeeEachOthersState) {
  // Each call of guidance keeps its own sparsity state: for the same prompt twice both predict the
  // same, and guidance changes nothing.
  GenerateOptions options = GoldenOptions();
  options.decode = false;
  options.sparsity = "wan-2.1";
  options.overrides = {"attn.top_keys=0.3",
                       "attn.random_keys=0",
                       "attn.local_voxels=0",
                       "attn.first_n_dense_layers=0",
                       "attn.counts_multiple_of=1",
                       "attn.mbm=12",
                       "step_caching.is_enabled=false"};
  options.negative_prompt = options.prompt;
  const GenerateResult guided = Pipeline(folder_).Generate(options);
  options.true_cfg_scale = 1;
  const GenerateResult plain = Pipeline(folder_).Generate(options);
  EXPECT_GT(plain.attention_sparsity, 0.2);
  EXPECT_LT(RelativeL2(guided.latents[0].values, plain.latents[0].values), 1e-5);
}

TEST_F(WanPipelineTest, TakesTheFamilysDefaults) {
  const Pipeline pipeline(folder_);
  EXPECT_TRUE(pipeline.info().makes_videos);
  EXPECT_EQ(pipeline.info().default_profile, "wan-2.1");
  EXPECT_EQ(pipeline.info().defaults.num_frames, 81);
  EXPECT_EQ(pipeline.size_multiple(), 16);
  EXPECT_EQ(pipeline.NumImageTokens({}), 21 * 30 * 52);
  EXPECT_EQ(pipeline.NumTextTokens({}), 512);
}

TEST_F(WanPipelineTest, RefusesFramesThatDoNotFit) {
  const Pipeline pipeline(folder_);
  for (const int frames : {0, -3, 8, 10}) {
    GenerateOptions options = GoldenOptions();
    options.num_frames = frames;
    ExpectError(ErrorCode::kInvalidArgument, "num_frames", [&] { pipeline.Generate(options); });
  }
}

TEST_F(WanPipelineTest, RefusesTheScaleOfASecondTransformer) {
  GenerateOptions options = GoldenOptions();
  options.true_cfg_scale_2 = 2;
  EXPECT_EQ(ErrorOf(options), "true_cfg_scale_2: this model has one transformer");
  EXPECT_EQ(Pipeline(folder_).info().defaults.true_cfg_scale_2, std::nullopt);
  EXPECT_EQ(Pipeline(folder_).SecondExpertStep(GoldenOptions()), 0);
}

TEST_F(WanPipelineTest, RefusesATimestepForEachTokenByName) {
  WriteIndex(R"({"_class_name": "WanPipeline", "expand_timesteps": true})");
  EXPECT_THAT(LoadError(ErrorCode::kUnsupported),
              testing::HasSubstr("field 'expand_timesteps': Wan 2.2 5B is not supported"));
}

}  // namespace
}  // namespace tamias
