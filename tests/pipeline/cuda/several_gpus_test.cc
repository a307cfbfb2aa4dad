// Generations whose two calls of a step run on two GPUs: the latents and the report of one GPU to
// the bit, and on each no more memory than was planned for it.
#include <gmock/gmock.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "pipeline/model_devices.h"
#include "tamias/pipeline.h"
#include "tests/support/several_gpus.h"

namespace tamias {
namespace {

using ::testing::HasSubstr;

class CudaSeveralGpus : public SeveralGpusTest {
 protected:
  CudaSeveralGpus() : SeveralGpusTest(2) {}

  static GenerateOptions Picture() {
    GenerateOptions options = SparsePictureOnGpu(/*steps=*/3, /*skipped_steps=*/"[]");
    options.negative_prompt = "a grey background";
    return options;
  }

  // A report without what differs from run to run and from device to device.
  static nlohmann::json WhatWasDone(const GenerateResult& result) {
    nlohmann::json steps = Steps(result);
    for (auto& step : steps) step.erase("seconds");
    return steps;
  }

  static GenerateResult ExpectOneGpus(const fs::path& folder, const GenerateOptions& options) {
    const GenerateResult one = Generate(Pipeline(folder), options);
    GenerateOptions several = options;
    several.device = "cuda:0,cuda:1";
    const GenerateResult two = Generate(Pipeline(folder), several);
    EXPECT_EQ(two.latents.at(0).values, one.latents.at(0).values);
    EXPECT_EQ(WhatWasDone(two), WhatWasDone(one));
    EXPECT_EQ(two.attention_sparsity, one.attention_sparsity);
    EXPECT_EQ(two.mlp_sparsity, one.mlp_sparsity);
    if (options.sparsity != "off") {
      EXPECT_GT(two.attention_sparsity, 0.05);
      EXPECT_GT(two.mlp_sparsity, 0.05);
    }
    return two;
  }
};

TEST_F(CudaSeveralGpus, WansFilmsAreThoseOfOne) {
  LinkWan("tiny-wan");
  ExpectOneGpus(folder_, Film("wan-2.1"));
}

TEST_F(CudaSeveralGpus, StepsAreSkippedByEachCallsOwnMeasure) {
  LinkWan("tiny-wan");
  GenerateOptions options = Film("wan-2.1");
  options.steps = 8;
  options.overrides.back() = "step_caching.is_enabled=true";
  options.overrides.insert(options.overrides.end(),
                           {"step_caching.skip_step_schedule=[]", "step_caching.threshold=0.2"});
  const GenerateResult two = ExpectOneGpus(folder_, options);
  int skipped = 0;
  for (const auto& step : WhatWasDone(two)) skipped += step.at("invocations_skipped").get<int>();
  EXPECT_GT(skipped, 0);
}

TEST_F(CudaSeveralGpus, FilmsOfAPictureAreThoseOfOne) {
  LinkWan("tiny-wan-image");
  LinkAll({"image_encoder", "image_processor"}, kTinyPipelines / "tiny-wan-image");
  GenerateOptions options = Film("wan-2.1");
  options.image = ReadImage(kTinyPipelines / "tiny-wan-image/picture.png");
  ExpectOneGpus(folder_, options);
}

// Steps 0 to 2 of 8 are the first transformer's.
TEST_F(CudaSeveralGpus, FilmsOfTwoTransformersAreThoseOfOne) {
  LinkWan("tiny-wan");
  LinkAll({"model_index.json", "transformer", "transformer_2"}, kTinyPipelines / "tiny-wan-2.2");
  GenerateOptions options = Film("wan-2.2");
  options.steps = 8;
  ExpectOneGpus(folder_, options);
}

TEST_F(CudaSeveralGpus, MochisFilmsAreThoseOfOne) {
  LinkMochi();
  GenerateOptions options = Film("mochi");
  options.num_frames = 25;
  ExpectOneGpus(folder_, options);
}

TEST_F(CudaSeveralGpus, PicturesAreTheSameInTheLeastMemory) {
  GenerateOptions options = Picture();
  const GenerateResult one = Generate(Pipeline(kDemoModel), options);
  const Pipeline pipeline(kDemoModel);
  options.device = "cuda:0,cuda:1";
  options.max_gpu_memory_bytes = 1;
  const size_t least = pipeline.PlanMemory(options).device_bytes;
  EXPECT_LT(static_cast<double>(least), 0.8 * static_cast<double>(one.planned_device_memory_bytes));
  const GenerateResult two = Generate(pipeline, options, least);
  EXPECT_EQ(two.images.at(0).rgb, one.images.at(0).rgb);
  EXPECT_THAT(two.device_measures,
              ::testing::ElementsAre(HasSubstr("in their stage alone"), HasSubstr("the state"),
                                     HasSubstr("sparse MLPs"), HasSubstr("of the transformer's")));
  EXPECT_EQ(two.planned_devices.at(0).bytes, least);
#ifdef TAMIAS_CUDA_EMULATION
  for (int i = 0; i < 2; ++i) EXPECT_EQ(cuda_emulator::AllocatedBytes(i), 0u);
#endif
  options.max_gpu_memory_bytes = least - 1;
  EXPECT_THAT(tamias::ErrorOf([&] { pipeline.Generate(options); }, ErrorCode::kOutOfMemory),
              HasSubstr("of GPU memory at the least (less with weight_dtype fp8_e4m3), but "
                        "max_gpu_memory is"));
}

// Copies of blocks that a plan does not count go on each of them before it encodes, where memory is
// short, and stay elsewhere.
TEST_F(CudaSeveralGpus, PinnedCopiesAreLeftoversOfAllOfThem) {
  const std::unique_ptr<ModelFamily> family = LoadModelFamily(ModelFolder(kDemoModel));
  DryRuns dry_runs;
  GenerateOptions options = Picture();
  options.device = "cuda:0,cuda:1";
  options.max_gpu_memory_bytes = size_t{1} << 30;
  const GenerationPlan whole = PlanGeneration(*family, options, dry_runs);
  options.max_gpu_memory_bytes = 1;
  const GenerationPlan streamed = PlanGeneration(*family, options, dry_runs);
  ModelDevices devices;
  { const ModelDevices::Lease lease = devices.Use(streamed, ModelStage::kDenoise); }
  const size_t pinned = devices.PinnedBytes();
  EXPECT_GT(pinned, 0u);
  EXPECT_EQ(devices.LeftoversOf(streamed).host_bytes, 0u);
  EXPECT_EQ(devices.LeftoversOf(whole).host_bytes, pinned);
  devices.DropLeftovers(streamed);
  EXPECT_EQ(devices.PinnedBytes(), pinned);
  devices.DropLeftovers(whole);
  EXPECT_EQ(devices.PinnedBytes(), 0u);
}

TEST_F(CudaSeveralGpus, TheReportSaysWhatLiesOnWhich) {
  LinkWan("tiny-wan");
  GenerateOptions options = Film("wan-2.1");
  options.steps = 1;
  options.device = "cuda:1,cuda:0";
  const auto report = nlohmann::json::parse(Pipeline(folder_).Generate(options).report_json);
  EXPECT_EQ(report.at("device"), "cuda:1,cuda:0");
  const auto& devices = report.at("planned_devices");
  ASSERT_EQ(devices.size(), 2u);
  EXPECT_EQ(devices[0].at("device"), "cuda:1");
  EXPECT_THAT(devices[0].dump(), HasSubstr("weights of vae"));
  EXPECT_EQ(devices[1].at("device"), "cuda:0");
  EXPECT_EQ(devices[1].at("entries").at(0).at("name"), "weights of transformer");
  EXPECT_EQ(report.at("planned_device_memory_bytes"), devices[0].at("bytes"));
}

// On one pipeline: what was planned and loaded for one is there when the next begins.
TEST_F(CudaSeveralGpus, EachAloneAndBothInAnyOrderMakeTheSameFilm) {
  LinkWan("tiny-wan");
  const Pipeline pipeline(folder_);
  GenerateOptions options = Film("wan-2.1");
  const std::vector<float> expected = pipeline.Generate(options).latents.at(0).values;
  for (const char* devices : {"cuda:1", "cuda:1,cuda:0"}) {
    options.device = devices;
    EXPECT_EQ(pipeline.Generate(options).latents.at(0).values, expected) << devices;
  }
}

TEST_F(CudaSeveralGpus, GenerationsInOppositeOrdersRunAtOnce) {
  LinkWan("tiny-wan");
  const Pipeline pipeline(folder_);
  std::vector<std::vector<float>> latents(2);
  {
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < 2; ++i) {
      threads.emplace_back([&, i] {
        GenerateOptions options = Film("wan-2.1");
        options.device = i == 0 ? "cuda:0,cuda:1" : "cuda:1,cuda:0";
        latents[i] = pipeline.Generate(options).latents.at(0).values;
      });
    }
  }
  EXPECT_EQ(latents[0], latents[1]);
}

TEST_F(CudaSeveralGpus, MustBeThereAndOfOneKind) {
  const Pipeline pipeline(kDemoModel);
  GenerateOptions options = Picture();
  options.device = "cuda:0,cuda:64";
  EXPECT_THAT(tamias::ErrorOf([&] { pipeline.Generate(options); }, ErrorCode::kInvalidArgument),
              HasSubstr("GPU 64: this machine has"));
#ifdef TAMIAS_CUDA_EMULATION
  cuda_emulator::SetDevices({"emulator", "another"});
  options.device = "cuda:0,cuda:1";
  for (const size_t limit : {size_t{0}, size_t{1} << 30}) {
    options.max_gpu_memory_bytes = limit;
    EXPECT_EQ(tamias::ErrorOf([&] { pipeline.Generate(options); }, ErrorCode::kInvalidArgument),
              "device: expected GPUs of one kind, found cuda:1 (another) beside cuda:0 (emulator)");
  }
#endif
}

}  // namespace
}  // namespace tamias
