// What is in the host's memory of a model's files: in each stage what that stage reads.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "pipeline/generation_plan.h"
#include "pipeline/memory_check.h"
#include "pipeline/model_devices.h"
#include "tamias/generation.h"
#include "tests/support/linked_model.h"

namespace tamias {
namespace {

// Of the files below a folder, what of their mappings is in memory, in bytes.
size_t ResidentBytes(const fs::path& folder) {
  const std::string prefix = fs::canonical(folder).string() + "/";
  std::ifstream maps("/proc/self/smaps");
  size_t bytes = 0;
  bool is_below = false;
  for (std::string line; std::getline(maps, line);) {
    if (std::isupper(static_cast<unsigned char>(line[0])) == 0) {  // of the next mapping
      is_below = line.find(prefix) != line.npos;
    } else if (line.starts_with("Rss:") && is_below) {
      bytes += std::stoul(line.substr(4)) * 1024;
    }
  }
  return bytes;
}

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
  std::optional<ModelDevices::Lease> first = devices.Use(*family, plan, ModelStage::kEncode);
  std::optional<ModelDevices::Lease> second = devices.Use(*family, plan, ModelStage::kEncode);
  Context context(1);
  family->EncodePrompt(context, "a heart", plan.settings);
  first.reset();
  EXPECT_GT(Resident("text_encoder_2"), 0u);
  // Nor by one that begins in another stage.
  const ModelDevices::Lease other = devices.Use(*family, plan, ModelStage::kDecode);
  EXPECT_GT(Resident("text_encoder_2"), 0u);
  second.reset();
  EXPECT_EQ(Resident("text_encoder_2"), 0u);
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
  needs(family->program_bytes() + all + 2 * plan.new_bytes);
  const RunningGenerations::Entry second = running.Enter(plan, {});
  needs(family->program_bytes() + all + 3 * plan.new_bytes);
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
