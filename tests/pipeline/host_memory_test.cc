// What is in the host's memory of a model's files: in each stage what that stage reads.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/generation_plan.h"
#include "pipeline/memory_check.h"
#include "pipeline/model_devices.h"
#include "tamias/generation.h"
#include "tests/support/linked_model.h"
#include "tests/support/resident_bytes.h"

namespace tamias {
namespace {

class HostMemoryTest : public LinkedModelTest {
 protected:
  HostMemoryTest() : LinkedModelTest("host-memory") {
    LinkDemoWithoutTransformer();
    LinkAll({"transformer"}, kDemoModel);
  }

  static GenerateOptions Picture() {
    GenerateOptions options = SmallPicture(/*steps=*/2);
    options.sparsity = "off";
    return options;
  }
  size_t Resident(const char* component) const { return ResidentBytes(folder_ / component); }
};

TEST_F(HostMemoryTest, FilesAreInMemoryWhileTheirModelRuns) {
  const Pipeline pipeline(folder_);
  Generation generation = pipeline.Start(Picture());
  generation.Encode();
  EXPECT_EQ(Resident("text_encoder"), 0u);
  EXPECT_EQ(Resident("text_encoder_2"), 0u);
  while (generation.Step()) {
  }
  EXPECT_GT(Resident("transformer"), size_t{20} << 20);
  generation.Decode();
  EXPECT_EQ(Resident("transformer"), 0u);
  EXPECT_EQ(Resident("vae"), 0u);
  EXPECT_EQ(pipeline.Generate(Picture()).images.at(0).rgb, generation.result().images.at(0).rgb);
}

TEST_F(HostMemoryTest, ThePlanHasTheFilesOfEachStageAndItsPeakOneStages) {
  const Pipeline pipeline(folder_);
  const MemoryPlan plan = pipeline.PlanMemory(Picture());
  size_t sum = 0;
  std::map<std::string, size_t> bytes;
  for (const MemoryEntry& entry : plan.entries) {
    sum += entry.bytes;
    bytes[entry.name] = entry.bytes;
  }
  // Of a picture of 64 x 64 pixels the transformer's weights are most.
  const size_t left_out = bytes.at("encoding: weights of text_encoder (mapped)") +
                          bytes.at("encoding: weights of text_encoder_2 (mapped)") +
                          bytes.at("workspace of the text encoders") +
                          bytes.at("decoding: weights of vae (mapped)") +
                          bytes.at("workspace of the decoder") + bytes.at("picture");
  EXPECT_EQ(plan.peak_bytes, sum - left_out);
  EXPECT_EQ(plan.weight_bytes, bytes.at("denoising: weights of transformer (mapped)"));
}

TEST_F(HostMemoryTest, WhatAnotherGenerationUsesStays) {
  const std::unique_ptr<ModelFamily> family = LoadModelFamily(ModelFolder(folder_));
  DryRuns dry_runs;
  const GenerationPlan plan = PlanGeneration(*family, Picture(), dry_runs);
  ModelDevices devices;
  std::optional<ModelDevices::Lease> first = devices.Use(plan, ModelStage::kEncode);
  std::optional<ModelDevices::Lease> second = devices.Use(plan, ModelStage::kEncode);
  Context context(1);
  family->EncodePrompt(context, "a heart", plan.settings);
  first.reset();
  EXPECT_GT(Resident("text_encoder_2"), 0u);
  // Nor by one that begins in another stage.
  const ModelDevices::Lease other = devices.Use(plan, ModelStage::kDecode);
  EXPECT_GT(Resident("text_encoder_2"), 0u);
  second.reset();
  EXPECT_EQ(Resident("text_encoder_2"), 0u);
}

// Of copies in other types and prepared ones: a plan has what it counts and need not keep the rest.
TEST_F(HostMemoryTest, CopiesThatAPlanDoesNotCountCanGo) {
  const std::unique_ptr<ModelFamily> family = LoadModelFamily(ModelFolder(folder_));
  DryRuns dry_runs;
  GenerateOptions options = Picture();
  options.dtype = "f32";
  const GenerationPlan dense = PlanGeneration(*family, options, dry_runs);
  options.weight_dtype = "fp8_e4m3";
  const GenerationPlan narrow = PlanGeneration(*family, options, dry_runs);
  options.weight_dtype = "auto";
  options.sparsity = "demo";
  options.overrides = {"mlp.is_enabled=true"};
  const GenerationPlan sparse = PlanGeneration(*family, options, dry_runs);
  ModelDevices devices;
  const auto left = [&](const GenerationPlan& plan) {
    return devices.LeftoversOf(plan).host_bytes;
  };
  for (const GenerationPlan* plan : {&narrow, &sparse}) {
    std::optional<ModelDevices::Lease> lease = devices.Use(*plan, ModelStage::kDenoise);
    EXPECT_EQ(left(dense), 0u) << "in use";
    lease.reset();
    EXPECT_GT(left(dense), 0u);
    EXPECT_EQ(left(dense), HostBytes(plan->copies));
    EXPECT_EQ(left(*plan), 0u);
    // Those that do not read it run on beside it.
    const ModelDevices::Lease other = devices.Use(dense, ModelStage::kDenoise);
    devices.DropLeftovers(*plan);
    EXPECT_EQ(left(dense), HostBytes(plan->copies));
    devices.DropLeftovers(dense);
    EXPECT_EQ(left(dense), 0u);
  }
  const Pipeline pipeline(folder_);
  const Image expected = Pipeline(folder_).Generate(options).images.at(0);
  std::vector<size_t> limits = {0};
#ifndef __SANITIZE_ADDRESS__  // which keeps what is freed
  limits.push_back(sparse.memory.peak_bytes + (size_t{1} << 20));
#endif
  for (const size_t limit : limits) {
    options.max_memory_bytes = limit;
    EXPECT_EQ(pipeline.Generate(options).images.at(0).rgb, expected.rgb);
    GenerateOptions others = options;
    others.weight_dtype = "fp8_e4m3";
    others.max_memory_bytes = 0;  // these take more
    pipeline.Generate(others);
  }
}

// Copies that decoding computes with are in its plan.
TEST_F(HostMemoryTest, ThePlanOfDecodingHasItsCopies) {
  const std::unique_ptr<ModelFamily> family = LoadModelFamily(ModelFolder(folder_));
  GenerateOptions options = Picture();
  const auto peak = [&](const char* dtype) {
    options.dtype = dtype;
    const GenerationPlan plan = PlanDecoding(*family, options);
    size_t sum = 0;
    for (const MemoryEntry& entry : plan.memory.entries) sum += entry.bytes;
    EXPECT_EQ(plan.memory.peak_bytes, sum);
    return plan;
  };
  EXPECT_EQ(HostBytes(peak("f32").copies), 0u);
  const GenerationPlan plan = peak("bf16");
  EXPECT_GT(HostBytes(plan.copies), 0u);
  const auto of_vae =
      std::ranges::find(plan.memory.entries, "weights of vae, in bf16", &MemoryEntry::name);
  ASSERT_NE(of_vae, plan.memory.entries.end());
  EXPECT_EQ(of_vae->bytes, HostBytes(plan.copies));
}

// They may be in any stage: what each has of the files counts, but no more than there is.
TEST_F(HostMemoryTest, GenerationsAtOnceCountTheFilesThatTheOthersRead) {
  const std::unique_ptr<ModelFamily> family = LoadModelFamily(ModelFolder(folder_));
  DryRuns dry_runs;
  const GenerationPlan plan = PlanGeneration(*family, Picture(), dry_runs);
  size_t all = 0, most = 0;
  for (const ComponentInfo& component : family->info().components) {
    all += component.bytes;
    most = std::max(most, component.bytes);
  }
  EXPECT_EQ(plan.mapped_bytes, most);
  RunningGenerations running;
  GenerateOptions options;
  const auto needs = [&](size_t bytes) {
    options.max_memory_bytes = bytes;
    EXPECT_EQ(tamias::ErrorOf([&] { running.Enter(plan, options); }), "");
    options.max_memory_bytes = bytes - 1;
    EXPECT_NE(tamias::ErrorOf([&] { running.Enter(plan, options); }, ErrorCode::kOutOfMemory), "");
  };
  needs(plan.memory.peak_bytes);
  const RunningGenerations::Entry first = running.Enter(plan, {});
  const size_t shared = family->program_bytes() + all + HostBytes(plan.copies);
  needs(shared + 2 * plan.new_bytes);
  const RunningGenerations::Entry second = running.Enter(plan, {});
  needs(shared + 3 * plan.new_bytes);
}

// Steps 0 to 2 of 8 are the first transformer's.
TEST_F(HostMemoryTest, OfTwoTransformersTheOneThatPredictsIsInMemory) {
  fs::remove_all(folder_ / "text_encoder_2");
  LinkWan("tiny-wan");
  LinkAll({"model_index.json", "transformer", "transformer_2"}, kTinyPipelines / "tiny-wan-2.2");
  const Pipeline pipeline(folder_);
  GenerateOptions options = Picture();
  options.width = options.height = 32;
  options.num_frames = 5;
  options.steps = 8;
  options.max_sequence_length = 40;
  pipeline.Generate(options);  // gives back what opening the files has read, too
  Generation generation = pipeline.Start(options);
  for (int step = 1; step <= 8; ++step) {
    generation.Step();
    EXPECT_EQ(Resident("transformer") > 0, step <= 3) << step;
    EXPECT_EQ(Resident("transformer_2") > 0, step > 3) << step;
  }
}

}  // namespace
}  // namespace tamias
