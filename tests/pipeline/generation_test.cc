// Generations step by step, several at once, and from latents that are given: all of them give what
// Pipeline::Generate gives, byte by byte.
#include "tamias/generation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "pipeline/generation_plan.h"
#include "pipeline/memory_check.h"
#include "tamias/error.h"
#include "tests/support/linked_model.h"

namespace tamias {
namespace {

using ::testing::HasSubstr;

// Small, with two model calls a step, sparse steps and skipped ones.
GenerateOptions SmallOptions(uint64_t seed = 1) {
  GenerateOptions options;
  options.prompt = "a small blue circle at the left on a grey background";
  options.width = 96;
  options.height = 64;
  options.steps = 4;
  options.seed = seed;
  options.threads = 1;
  options.overrides = {"mlp.is_enabled=true", "step_caching.skip_step_schedule=[2]"};
  return options;
}

class GenerationTest : public testing::Test {
 protected:
  const Pipeline pipeline_{kDemoModel};
};

GenerateResult RunBySteps(Generation& generation) {
  while (!generation.IsDone()) {
    while (generation.Step()) {
    }
    generation.Decode();
  }
  return std::move(generation).TakeResult();
}

void ExpectSame(const GenerateResult& a, const GenerateResult& b) {
  ASSERT_EQ(a.latents.size(), b.latents.size());
  for (size_t i = 0; i < a.latents.size(); ++i) EXPECT_EQ(a.latents[i].values, b.latents[i].values);
  ASSERT_EQ(a.images.size(), b.images.size());
  for (size_t i = 0; i < a.images.size(); ++i) EXPECT_EQ(a.images[i].rgb, b.images[i].rgb);
}

TEST_F(GenerationTest, StepByStepGivesWhatOneCallGives) {
  GenerateOptions options = SmallOptions();
  options.num_images = 2;
  Generation generation = pipeline_.Start(options);
  EXPECT_EQ(generation.num_steps(), pipeline_.NumSteps(options));
  EXPECT_EQ(generation.image(), 0);
  EXPECT_EQ(generation.step(), 0);
  generation.Encode();
  EXPECT_TRUE(generation.Step());
  EXPECT_EQ(generation.step(), 1);
  const GenerateResult result = RunBySteps(generation);
  EXPECT_EQ(result.images.size(), 2u);
  ExpectSame(result, pipeline_.Generate(options));
}

TEST_F(GenerationTest, TakesItsStepsInTurnWithAnother) {
  Generation first = pipeline_.Start(SmallOptions(1)), second = pipeline_.Start(SmallOptions(2));
  for (int step = 0; step < first.num_steps(); ++step) {
    EXPECT_TRUE(first.Step());
    EXPECT_TRUE(second.Step());
  }
  second.Decode();
  first.Decode();
  ExpectSame(first.result(), pipeline_.Generate(SmallOptions(1)));
  ExpectSame(second.result(), pipeline_.Generate(SmallOptions(2)));
}

TEST_F(GenerationTest, LatentsPutBackChangeNothingAndOthersDo) {
  const GenerateResult expected = pipeline_.Generate(SmallOptions());
  Generation same = pipeline_.Start(SmallOptions()), other = pipeline_.Start(SmallOptions());
  same.Step();
  same.SetLatents(same.latents());
  ExpectSame(RunBySteps(same), expected);
  other.Step();
  Latents latents = other.latents();
  latents.values[0] += 0.5f;
  other.SetLatents(latents);
  EXPECT_NE(RunBySteps(other).latents[0].values, expected.latents[0].values);
}

// With one step, the noise and the prediction at it give the result; so noise can be found from any
// other generation and handed over.
TEST_F(GenerationTest, BeginsWithTheLatentsThatAreGiven) {
  GenerateOptions options = SmallOptions(7);
  options.initial_latents.resize(1);
  Latents& noise = options.initial_latents[0];
  noise.tokens = pipeline_.NumImageTokens(options);
  noise.channels = pipeline_.Generate(SmallOptions()).latents[0].channels;
  for (int64_t i = 0; i < noise.tokens * noise.channels; ++i) {
    noise.values.push_back(std::sin(static_cast<float>(i)));
  }
  const GenerateResult result = pipeline_.Generate(options);
  EXPECT_NE(result.latents[0].values, pipeline_.Generate(SmallOptions(7)).latents[0].values);
  options.seed = 8;  // is of no account then
  ExpectSame(result, pipeline_.Generate(options));
}

TEST_F(GenerationTest, EndsEarlyWithTheLatentsAsTheyAre) {
  Generation generation = pipeline_.Start(SmallOptions());
  generation.Step();
  const Latents latents = generation.latents();
  generation.Decode();
  EXPECT_TRUE(generation.IsDone());
  EXPECT_FALSE(generation.Step());
  EXPECT_EQ(generation.result().latents[0].values, latents.values);
  EXPECT_EQ(generation.result().images.size(), 1u);
}

TEST_F(GenerationTest, OutlivesItsPipeline) {
  std::optional<Pipeline> pipeline(kDemoModel);
  Generation generation = pipeline->Start(SmallOptions());
  pipeline.reset();
  ExpectSame(RunBySteps(generation), pipeline_.Generate(SmallOptions()));
}

TEST_F(GenerationTest, RefusesWhatComesTooEarlyAndLatentsThatDoNotFit) {
  Generation generation = pipeline_.Start(SmallOptions());
  EXPECT_THAT(ErrorOf([&] { generation.Decode(); }, ErrorCode::kInvalidArgument),
              HasSubstr("no picture is under way"));
  EXPECT_NE(ErrorOf([&] { generation.latents(); }, ErrorCode::kInvalidArgument), "");
  generation.Step();
  Latents latents = generation.latents();
  latents.tokens -= 1;
  EXPECT_THAT(ErrorOf([&] { generation.SetLatents(latents); }, ErrorCode::kInvalidArgument),
              HasSubstr("96x64 pixels: expected"));
  latents.tokens += 1;
  latents.values[3] = NAN;
  EXPECT_THAT(ErrorOf([&] { generation.SetLatents(latents); }), HasSubstr("finite"));
  GenerateOptions options = SmallOptions();
  options.initial_latents = {generation.latents(), generation.latents()};
  EXPECT_THAT(ErrorOf([&] { pipeline_.Start(options); }, ErrorCode::kInvalidArgument),
              HasSubstr("initial_latents: expected one for each of 1 images, found 2"));
}

// Whether it ends well or not.
TEST_F(GenerationTest, GivesBackWhatItWasPromisedWhenItEnds) {
  GenerateOptions options = SmallOptions();
  options.max_memory_bytes = pipeline_.PlanMemory(options).peak_bytes + (size_t{1} << 20);
  Generation done = pipeline_.Start(options);
  done.Step();
  EXPECT_THAT(ErrorOf([&] { pipeline_.Start(options); }, ErrorCode::kOutOfMemory),
              HasSubstr("beside the generations under way"));
  done.Decode();
  Generation failed = pipeline_.Start(
      options, [](const Progress& progress) { return progress.stage != Stage::kDenoise; });
  EXPECT_NE(ErrorOf([&] { failed.Step(); }, ErrorCode::kCancelled), "");
  EXPECT_EQ(ErrorOf([&] { pipeline_.Start(options); }), "");
  EXPECT_EQ(done.result().images.size(), 1u);
  EXPECT_TRUE(failed.result().images.empty());
  EXPECT_THAT(ErrorOf([&] { failed.Step(); }, ErrorCode::kInvalidArgument),
              HasSubstr("an earlier call has failed"));
}

// Under the thread sanitizer, too (scripts/test). The first of them prepares the model for sparse
// MLPs while others run densely.
void ExpectSameAtOnce(int count) {
  const Pipeline pipeline(kDemoModel);
  const auto options_of = [](int i) {
    GenerateOptions options = SmallOptions(static_cast<uint64_t>(i));
    options.width = options.height = 48;
    options.steps = 3;
    if (i % 2 == 1) {
      options.sparsity = "off";
      options.overrides.clear();
    }
    return options;
  };
  std::vector<GenerateResult> at_once(static_cast<size_t>(count));
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back(
        [&, i] { at_once[static_cast<size_t>(i)] = pipeline.Generate(options_of(i)); });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < count; ++i) {
    SCOPED_TRACE(i);
    ExpectSame(at_once[static_cast<size_t>(i)], pipeline.Generate(options_of(i)));
  }
}

TEST(GenerationsAtOnce, TwoGiveWhatTheyGiveOneAfterAnother) { ExpectSameAtOnce(2); }
TEST(GenerationsAtOnce, FourGiveWhatTheyGiveOneAfterAnother) { ExpectSameAtOnce(4); }

GenerationPlan PlanOf(size_t bytes) {
  GenerationPlan plan;
  plan.settings.width = plan.settings.height = 64;
  plan.memory.peak_bytes = plan.new_bytes = bytes;
  return plan;
}

TEST(RunningGenerations, CountWhatTheOthersWerePromised) {
  RunningGenerations running;
  GenerateOptions options;
  options.max_memory_bytes = size_t{100} << 20;
  const GenerationPlan plan = PlanOf(size_t{60} << 20);
  std::optional<RunningGenerations::Entry> first = running.Enter(plan, options);
  EXPECT_THAT(ErrorOf([&] { running.Enter(plan, options); }, ErrorCode::kOutOfMemory),
              HasSubstr("120 MiB of memory beside the generations under way, but max_memory is"));
  EXPECT_EQ(ErrorOf([&] { running.Enter(PlanOf(size_t{40} << 20), options); }), "");
  first.reset();
  EXPECT_EQ(ErrorOf([&] { running.Enter(plan, options); }), "");
}

// What two of them share counts once, in whichever types they have the rest.
TEST(RunningGenerations, CountCopiesThatTheyShareOnce) {
  const std::unique_ptr<ModelFamily> family = LoadModelFamily(ModelFolder(kDemoModel));
  DryRuns dry_runs;
  GenerateOptions options = SmallOptions();
  options.dtype = "f32";
  const GenerationPlan sparse = PlanGeneration(*family, options, dry_runs);
  options.overrides.clear();
  options.sparsity = "off";
  const GenerationPlan dense = PlanGeneration(*family, options, dry_runs);
  const size_t prepared = HostBytes(sparse.copies);
  EXPECT_GT(prepared, 0u);
  EXPECT_EQ(HostBytes(dense.copies), 0u);
  RunningGenerations running;
  const RunningGenerations::Entry first = running.Enter(sparse, {});
  const auto fits = [&](const GenerationPlan& plan, size_t bytes) {
    GenerateOptions limited;
    limited.max_memory_bytes = bytes;
    return ErrorOf([&] { running.Enter(plan, limited); }).empty();
  };
  const auto expect_needs = [&](const GenerationPlan& plan, size_t bytes) {
    EXPECT_TRUE(fits(plan, bytes));
    EXPECT_FALSE(fits(plan, bytes - 1));
  };
  const auto mapped = [](const GenerationPlan& plan) {
    return std::min(plan.mapped_bytes, plan.rest_mapped_bytes);
  };
  expect_needs(sparse, sparse.memory.peak_bytes + sparse.new_bytes + mapped(sparse));
  expect_needs(dense, dense.memory.peak_bytes + sparse.new_bytes + prepared + mapped(dense));
}

TEST(RunningGenerations, HaveRoomForWhatOthersLeftOrNot) {
  const RunningGenerations running;
  GenerateOptions options;
  options.max_memory_bytes = size_t{100} << 20;
  const GenerationPlan plan = PlanOf(size_t{60} << 20);
  EXPECT_TRUE(running.HasRoomBeside(plan, options, {size_t{40} << 20, {}}));
  EXPECT_FALSE(running.HasRoomBeside(plan, options, {(size_t{40} << 20) + 1, {}}));
}

}  // namespace
}  // namespace tamias
