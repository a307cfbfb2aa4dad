// The whole FLUX.1 pipeline against diffusers: same folder, prompt, seed, size and steps.
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

const fs::path kData = fs::path(TAMIAS_TEST_DATA) / "pipeline";
const fs::path kTinyDevGolden = kData / "tiny-dev/latents.safetensors";

GenerateOptions GoldenOptions(const fs::path& golden) {
  const SafetensorsFile file(golden);
  GenerateOptions options;
  options.prompt = file.metadata().at("prompt");
  options.sparsity = "off";
  options.max_sequence_length = 36;
  return options;
}

// Those of the latents in demo.safetensors.
GenerateOptions GuidedDemoOptions() {
  GenerateOptions options = GoldenOptions(kData / "demo.safetensors");
  options.width = 96;
  options.height = 64;
  options.steps = 6;
  options.true_cfg_scale = 3;
  options.seed = 11;
  return options;
}

TEST(FluxPipeline, DemoModelWithTrueGuidanceMatchesDiffusers) {
  GenerateOptions options = GuidedDemoOptions();
  const GenerateResult result = Pipeline(kDemoModel).Generate(options);
  ExpectLatents(result, SafetensorsFile(kData / "demo.safetensors").Get("latents"));
  ASSERT_EQ(result.images.size(), 1u);
  EXPECT_EQ(result.images[0].width, 96);
  EXPECT_EQ(result.images[0].height, 64);
}

// Of weights in f16, which are rounded to bf16 once.
TEST(FluxPipeline, DemoModelInBFloat16IsNearDiffusers) {
  GenerateOptions options = GuidedDemoOptions();
  options.dtype = "bf16";
  const Pipeline pipeline(kDemoModel);
  const GenerateResult result = pipeline.Generate(options);
  ExpectLatents(result, SafetensorsFile(kData / "demo.safetensors").Get("latents"),
                kBFloat16LatentTolerance);
  EXPECT_THAT(result.report_json, testing::HasSubstr(R"("dtype": "bf16")"));
  EXPECT_EQ(pipeline.Generate(options).latents[0].values, result.latents[0].values);
  options.dtype = "f32";  // of the same pipeline
  ExpectLatents(pipeline.Generate(options),
                SafetensorsFile(kData / "demo.safetensors").Get("latents"));
}

// Other columns and neurons are chosen where scores are near: of a small picture that is more than
// the rounding itself.
TEST(FluxPipeline, AcceleratedInBFloat16IsNearAcceleratedInF32) {
  const Pipeline pipeline(kDemoModel);
  for (const bool with_mlp : {false, true}) {
    SCOPED_TRACE(with_mlp);
    GenerateOptions options = GoldenOptions(kData / "demo.safetensors");
    options.sparsity = "demo";
    options.overrides = {with_mlp ? "mlp.is_enabled=true" : "mlp.is_enabled=false"};
    options.width = 128;
    options.height = 128;
    options.steps = 8;
    options.dtype = "f32";
    const GenerateResult wide = pipeline.Generate(options);
    options.dtype = "bf16";
    const GenerateResult narrow = pipeline.Generate(options);
    EXPECT_GT(Psnr(narrow.images[0], wide.images[0]), with_mlp ? 25 : 35);
    EXPECT_NEAR(narrow.attention_sparsity, wide.attention_sparsity, 0.01);
    EXPECT_GT(narrow.attention_sparsity, 0);
    EXPECT_EQ(narrow.mlp_sparsity > 0, with_mlp);
  }
}

TEST(FluxPipeline, StateInBFloat16IsHalf) {
  const Pipeline pipeline(kDemoModel);
  GenerateOptions options;
  options.sparsity = "demo";
  options.dtype = "f32";
  const auto cache_bytes = [&] {
    size_t bytes = 0;
    for (const MemoryEntry& entry : pipeline.PlanMemory(options).entries) {
      if (entry.name == "state: attention output cache") bytes += entry.bytes;
    }
    return bytes;
  };
  const size_t wide = cache_bytes();
  options.dtype = "bf16";
  EXPECT_GT(wide, 0u);
  EXPECT_EQ(2 * cache_bytes(), wide);
}

// The demo model's folder with another transformer and scheduler.
class TinyDev : public LinkedModelTest {
 protected:
  TinyDev() : LinkedModelTest("tiny-dev") {
    for (const auto& entry : fs::directory_iterator(kDemoModel)) {
      const std::string name = entry.path().filename();
      if (name != "tamias.json") Link(name, entry.path());
    }
    LinkAll({"transformer", "scheduler"}, kData / "tiny-dev");
  }
};

GenerateOptions TinyDevOptions() {
  GenerateOptions options = GoldenOptions(kTinyDevGolden);
  options.width = 56;
  options.height = 72;
  options.steps = 4;
  options.guidance_scale = 3.5;
  options.num_images = 2;
  options.seed = 3;
  options.decode = false;
  return options;
}

TEST_F(TinyDev, GuidanceEmbeddingStaticShiftAndTwoPicturesMatchDiffusers) {
  const GenerateResult result = Pipeline(folder_).Generate(TinyDevOptions());
  ExpectLatents(result, SafetensorsFile(kTinyDevGolden).Get("latents"));
  EXPECT_TRUE(result.images.empty());
}

// Two pictures of one seed, of schedulers that shift by the number of tokens; two of them draw
// noise.
TEST_F(TinyDev, LatentsOfEverySchedulerMatchDiffusers) {
  for (const auto& [name, class_name] : {std::pair{"lcm", "FlowMatchLCMScheduler"},
                                         {"dpm", "DPMSolverMultistepScheduler"},
                                         {"dpm-sde", "DPMSolverMultistepScheduler"},
                                         {"unipc", "UniPCMultistepScheduler"}}) {
    SCOPED_TRACE(name);
    UseScheduler("FluxPipeline", class_name,
                 kData / "tiny-dev" / (std::string("scheduler-") + name));
    const GenerateResult result = Pipeline(folder_).Generate(TinyDevOptions());
    ExpectLatents(result, SafetensorsFile(kTinyDevGolden).Get(std::string(name) + "_latents"));
  }
}

TEST_F(TinyDev, TakesTheFamilysDefaults) {
  const Pipeline pipeline(folder_);
  EXPECT_EQ(pipeline.info().default_profile, "flux-1-dev");
  EXPECT_EQ(pipeline.info().defaults.width, 1024);
  EXPECT_EQ(pipeline.size_multiple(), 8);
}

TEST(FluxPipeline, CallbackStopsAGeneration) {
  GenerateOptions options = GoldenOptions(kData / "demo.safetensors");
  options.width = 64;
  options.height = 64;
  options.steps = 5;
  int steps = 0;
  const auto stop = [&](const Progress& progress) {
    steps = progress.stage == Stage::kDenoise ? progress.step : 0;
    return steps < 2;
  };
  try {
    Pipeline(kDemoModel).Generate(options, stop);
    FAIL() << "was not stopped";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCancelled);
    EXPECT_EQ(steps, 2);
  }
}

TEST(FluxPipeline, PlanGrowsWithTheSizeAndWithSparsity) {
  const Pipeline pipeline(kDemoModel);
  GenerateOptions small;
  small.sparsity = "off";
  small.width = 128;
  small.height = 128;
  GenerateOptions large = small;
  large.width = 1024;
  GenerateOptions sparse = large;
  sparse.sparsity = "demo";
  EXPECT_LT(pipeline.PlanMemory(small).peak_bytes, pipeline.PlanMemory(large).peak_bytes);
  EXPECT_LT(pipeline.PlanMemory(large).peak_bytes, pipeline.PlanMemory(sparse).peak_bytes);
}

TEST(FluxPipeline, StateBeyondMaxMemoryGoesToAFileAndChangesNothing) {
  const Pipeline pipeline(kDemoModel);
  GenerateOptions options = GoldenOptions(kData / "demo.safetensors");
  options.sparsity = "demo";
  options.width = 128;
  options.height = 128;
  options.steps = 4;
  options.decode = false;
  const MemoryPlan in_memory = pipeline.PlanMemory(options);
  const GenerateResult expected = pipeline.Generate(options);
  options.max_memory_bytes = in_memory.peak_bytes - 1;
  const MemoryPlan spilled = pipeline.PlanMemory(options);
  EXPECT_EQ(in_memory.spill_bytes, 0u);
  EXPECT_GT(spilled.spill_bytes, 0u);
  EXPECT_LT(spilled.peak_bytes, in_memory.peak_bytes);
  EXPECT_EQ(pipeline.Generate(options).latents.front().values, expected.latents.front().values);
  options.max_memory_bytes = spilled.peak_bytes - 1;
  EXPECT_THROW(pipeline.Generate(options), Error);
}

}  // namespace
}  // namespace tamias
