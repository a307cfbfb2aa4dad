// Generations whose GPUs share a call of the transformer, tokens apart outside attention and heads
// inside: the latents of one GPU to the bit, the same work left out, and on each GPU no more memory
// than was planned for it. To the bit where kernels choose by the number of rows and heads as they
// do for all of them: the sizes here leave each GPU more than the four rows that have a kernel of
// their own, and the emulated GPUs have one multiprocessor, which is busy with any number of tiles.
#include <fmt/format.h>

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tamias/pipeline.h"
#include "tests/support/compare_tensors.h"
#include "tests/support/several_gpus.h"

namespace tamias {
namespace {

using ::testing::HasSubstr;

const fs::path kDemoVideo = fs::path(TAMIAS_SOURCE_DIR) / "models/demo-video";

class CudaSharedCalls : public SeveralGpusTest {
 protected:
  CudaSharedCalls() : SeveralGpusTest(4) {}

#ifdef TAMIAS_CUDA_EMULATION
  void SetUp() override {
    SeveralGpusTest::SetUp();
    cuda_emulator::SetMultiprocessors(1);
  }
  void TearDown() override {
    cuda_emulator::SetMultiprocessors(4);
    SeveralGpusTest::TearDown();
  }
#endif

  // 64 image tokens after 32 of text, in groups of 32.
  static GenerateOptions Picture() {
    GenerateOptions options = SparsePictureOnGpu(/*steps=*/3, /*skipped_steps=*/"[]");
    options.true_cfg_scale = 1;
    options.max_sequence_length = 32;
    options.decode = false;
    options.overrides.insert(options.overrides.end(), {"mlp.mbm=32", "attn.random_keys=0.1"});
    return options;
  }

  // Without guidance.
  static GenerateOptions Film(const char* profile) {
    GenerateOptions options = SeveralGpusTest::Film(profile);
    options.true_cfg_scale = 1;
    options.overrides.push_back("mlp.mbm=8");
    return options;
  }

  static std::string Gpus(int count) {
    std::string names;
    for (int i = 0; i < count; ++i) names += fmt::format("{}cuda:{}", i > 0 ? "," : "", i);
    return names;
  }

  static void ExpectNear(const nlohmann::json& drift, const nlohmann::json& expected) {
    ASSERT_EQ(drift.is_null(), expected.is_null());
    if (drift.is_null()) return;
    EXPECT_NEAR(drift.get<double>(), expected.get<double>(), 1e-5 * expected.get<double>());
  }

  // The same work on each step, and drift, whose sums are added up in another order.
  static void ExpectSameWork(const GenerateResult& result, const GenerateResult& expected) {
    const nlohmann::json steps = Steps(result), expected_steps = Steps(expected);
    ASSERT_EQ(steps.size(), expected_steps.size());
    for (size_t i = 0; i < steps.size(); ++i) {
      for (const char* key :
           {"kind", "invocations_skipped", "attention_sparsity", "mlp_sparsity"}) {
        EXPECT_EQ(steps[i].at(key), expected_steps[i].at(key)) << key << " of step " << i;
      }
      const auto& layers = steps[i].at("layers");
      const auto& expected_layers = expected_steps[i].at("layers");
      ASSERT_EQ(layers.size(), expected_layers.size());
      for (size_t layer = 0; layer < layers.size(); ++layer) {
        SCOPED_TRACE(fmt::format("layer {} of step {}", layer, i));
        for (const char* key : {"layer", "invocation", "attention_sparsity", "mlp_sparsity"}) {
          EXPECT_EQ(layers[layer].at(key), expected_layers[layer].at(key)) << key;
        }
        for (const char* key : {"attention_drift", "mlp_drift"}) {
          ExpectNear(layers[layer].at(key), expected_layers[layer].at(key));
        }
      }
    }
  }

  struct Outcome {
    GenerateResult one, several;
  };
  static Outcome OnBoth(const fs::path& folder, GenerateOptions options, int gpus) {
    Outcome outcome;
    outcome.one = Generate(Pipeline(folder), options);
    options.device = Gpus(gpus);
    outcome.several = Generate(Pipeline(folder), options);
    return outcome;
  }

  static Outcome ExpectOneGpus(const fs::path& folder, const GenerateOptions& options, int gpus) {
    Outcome outcome = OnBoth(folder, options, gpus);
    const auto& [one, several] = outcome;
    EXPECT_EQ(several.latents.at(0).values, one.latents.at(0).values);
    ExpectSameWork(several, one);
    if (options.sparsity != "off") {
      EXPECT_GT(several.attention_sparsity, 0.05);
      EXPECT_GT(several.mlp_sparsity, 0.05);
    }
    return outcome;
  }
};

TEST_F(CudaSharedCalls, PicturesAreThoseOfOne) { ExpectOneGpus(kDemoModel, Picture(), 2); }

TEST_F(CudaSharedCalls, DensePicturesOfFourAreThoseOfOne) {
  GenerateOptions options = Picture();
  options.steps = 1;
  options.max_sequence_length = 8;
  options.sparsity = "off";
  options.overrides.clear();
  ExpectOneGpus(kDemoModel, options, 4);
}

TEST_F(CudaSharedCalls, WansFilmsAreThoseOfOne) {
  LinkWan("tiny-wan");
  ExpectOneGpus(folder_, Film("wan-2.1"), 2);
}

TEST_F(CudaSharedCalls, ProfiledDriftIsThatOfOne) {
  LinkWan("tiny-wan");
  GenerateOptions options = Film("wan-2.1");
  options.overrides.push_back("should_profile=true");
  ExpectOneGpus(folder_, options, 2);
}

TEST_F(CudaSharedCalls, EachWayToMergeIsThatOfOne) {
  LinkWan("tiny-wan");
  for (const bool is_pooled : {false, true}) {
    GenerateOptions options = Film("wan-2.1");
    options.overrides.push_back(is_pooled ? "attn.merge=pooled" : "attn.merge=lse");
    if (is_pooled) options.overrides.push_back("attn.column_sums=pooled");
    ExpectOneGpus(folder_, options, 2);
  }
}

TEST_F(CudaSharedCalls, MochisFilmsAreThoseOfOne) {
  LinkMochi();
  GenerateOptions options = Film("mochi");
  options.num_frames = 37;
  options.steps = 3;
  ExpectOneGpus(folder_, options, 3);
}

// 80 tokens of a film after 32 of text.
TEST_F(CudaSharedCalls, HunyuanVideosFilmsAreThoseOfOne) {
  GenerateOptions options = Film("demo-video");
  options.max_sequence_length = 32;
  options.prompt += " beside " + options.prompt;  // more than 32
  options.steps = 3;
  options.overrides.push_back("mlp.mbm=32");
  ExpectOneGpus(kDemoVideo, options, 3);
}

TEST_F(CudaSharedCalls, FilmsOfAPictureAreThoseOfOne) {
  LinkWan("tiny-wan-image");
  LinkAll({"image_encoder", "image_processor"}, kTinyPipelines / "tiny-wan-image");
  GenerateOptions options = Film("wan-2.1");
  options.image = ReadImage(kTinyPipelines / "tiny-wan-image/picture.png");
  ExpectOneGpus(folder_, options, 2);
}

TEST_F(CudaSharedCalls, FourShareTheTwoCallsOfGuidance) {
  LinkWan("tiny-wan");
  GenerateOptions options = Film("wan-2.1");
  options.true_cfg_scale = 3;
  ExpectOneGpus(folder_, options, 4);
}

TEST_F(CudaSharedCalls, StepsAreSkippedByScheduleAsOnOne) {
  LinkWan("tiny-wan");
  for (const char* reuse : {"hidden", "extrapolate"}) {
    GenerateOptions options = Film("wan-2.1");
    options.steps = 6;
    options.overrides.insert(
        options.overrides.end(),
        {"step_caching.is_enabled=true", "step_caching.skip_step_schedule=[3, 5]",
         fmt::format("step_caching.reuse={}", reuse)});
    ExpectOneGpus(folder_, options, 2);
  }
}

TEST_F(CudaSharedCalls, StepsAreSkippedByTheMeasureOfAllTokens) {
  LinkWan("tiny-wan");
  GenerateOptions options = Film("wan-2.1");
  options.steps = 8;
  options.overrides.insert(options.overrides.end(),
                           {"step_caching.is_enabled=true", "step_caching.skip_step_schedule=[]",
                            "step_caching.threshold=0.2"});
  const Outcome outcome = ExpectOneGpus(folder_, options, 2);
  int skipped = 0;
  for (const auto& step : Steps(outcome.several)) {
    skipped += step.at("invocations_skipped").get<int>();
  }
  EXPECT_GT(skipped, 0);
  EXPECT_LT(skipped, 6);
}

// 29 tokens of text: one group of an MLP is of text and image on one GPU, and others are cut
// otherwise on the second.
TEST_F(CudaSharedCalls, GroupsOfTextAndImageMakeALikePicture) {
  GenerateOptions options = Picture();
  options.max_sequence_length = 29;
  const auto& [one, several] = OnBoth(kDemoModel, options, 2);
  const double distance = RelativeL2(several.latents.at(0).values, one.latents.at(0).values);
  RecordProperty("distance", std::to_string(distance));
  EXPECT_GT(distance, 0);
  EXPECT_LT(distance, 0.05);  // as of a GPU from the CPU, where other neurons are chosen, too
}

// Of 8 layers of width 256 queries, keys, values and outputs in 16 bits.
TEST_F(CudaSharedCalls, ReportWhatTheyExchange) {
  for (const int gpus : {1, 2, 4}) {
    GenerateOptions options = Picture();
    options.steps = 2;
    options.overrides.insert(options.overrides.end(),
                             {"mlp.mbm=16", "step_caching.skip_step_schedule=[1]"});
    options.device = Gpus(gpus);
    const nlohmann::json steps = Steps(Generate(Pipeline(kDemoModel), options));
    const int64_t bytes = int64_t{8} * 4 * (32 + 64) * 256 * 2 * (gpus - 1) / gpus;
    EXPECT_EQ(steps[0].at("exchanged_bytes"), bytes);
    EXPECT_EQ(steps[1].at("exchanged_bytes"), 0);
  }
}

TEST_F(CudaSharedCalls, EachHoldsItsShareInTheLeastMemory) {
  LinkWan("tiny-wan");
  GenerateOptions options = Film("wan-2.1");
  const Pipeline pipeline(folder_);
  const MemoryPlan one = pipeline.PlanMemory(options);
  const std::vector<float> expected = pipeline.Generate(options).latents.at(0).values;
  options.device = Gpus(2);
  const MemoryPlan two = pipeline.PlanMemory(options);
  const auto bytes = [](const MemoryPlan& plan, size_t device, const std::string& name) {
    size_t sum = 0;
    for (const MemoryEntry& entry : plan.devices.at(device).entries) {
      if (entry.name.starts_with(name)) sum += entry.bytes;
    }
    return sum;
  };
  ASSERT_EQ(two.devices.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(2 * bytes(two, i, "state: attention output cache"),
              bytes(one, 0, "state: attention output cache"));
    EXPECT_LT(bytes(two, i, "state: MLP"), bytes(one, 0, "state: MLP"));
    EXPECT_EQ(bytes(two, i, "weights of transformer"), bytes(one, 0, "weights of transformer"));
  }
  options.max_gpu_memory_bytes = 1;
  const size_t least = pipeline.PlanMemory(options).device_bytes;
  const GenerateResult result = Generate(pipeline, options, least);
  EXPECT_EQ(result.latents.at(0).values, expected);
  EXPECT_FALSE(result.device_measures.empty());
}

TEST_F(CudaSharedCalls, AreRefusedWhereHeadsOrTokensCannotBeShared) {
  const auto error_of = [](GenerateOptions options, int gpus) {
    options.device = Gpus(gpus);
    return tamias::ErrorOf([&] { Pipeline(kDemoModel).Generate(options); },
                           ErrorCode::kInvalidArgument);
  };
  EXPECT_EQ(error_of(Picture(), 3),
            "device: expected a number of GPUs for each call of the transformer that divides its 4 "
            "heads (num_attention_heads), found 3");
  GenerateOptions guided = Picture();
  guided.true_cfg_scale = 2;
  EXPECT_EQ(error_of(guided, 3),
            "device: expected one, or GPUs of an even number (a step with guidance calls the "
            "transformer twice), found 'cuda:0,cuda:1,cuda:2'");
  EXPECT_EQ(error_of(Picture(), 4),
            "device: expected at most 2 GPUs for each call of the transformer (64 image tokens in "
            "groups of 32), found 4");
}

}  // namespace
}  // namespace tamias
