// What a plan says of each stage is what the stage takes, within 5 %: the tiny models of all
// families and the demo models, dense and accelerated.
#include "pipeline/generation_plan.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/device_invocations.h"
#include "pipeline/model_devices.h"
#include "tamias/error.h"
#include "tests/support/linked_model.h"

namespace tamias {
namespace {

// Bytes that small operations may plan or take beyond each other.
constexpr double kSlack = 64 << 10;

void ExpectClose(size_t planned, size_t taken, const char* stage) {
  EXPECT_GE(static_cast<double>(planned), static_cast<double>(taken)) << stage;
  EXPECT_LE(static_cast<double>(planned), 1.05 * static_cast<double>(taken) + kSlack) << stage;
}

// A prompt that fills the sequence, as plans assume.
std::string LongPrompt() {
  std::string prompt;
  for (int i = 0; i < 1000; ++i) prompt += "circle ";
  return prompt;
}

std::vector<PromptEmbedding> Prompts(const ModelFamily& family, const GenerationPlan& plan) {
  Context context(plan.threads);
  std::vector<PromptEmbedding> prompts;
  for (int i = 0; i < plan.settings.num_invocations(); ++i) {
    prompts.push_back(family.EncodePrompt(context, LongPrompt(), plan.settings));
  }
  return prompts;
}

size_t DenoisingPeak(const ModelFamily& family, const GenerationPlan& plan,
                     const std::vector<PromptEmbedding>& prompts, int steps) {
  ModelDevices devices;
  const ModelDevices::Lease lease = devices.Use(plan, ModelStage::kDenoise);
  Context stage(plan.placement, plan.threads);
  const Shape shape = {1, plan.latents.tokens(), plan.latents.token_channels()};
  Tensor latents = Tensor::Zeros(shape, DType::kF32), prediction(shape, DType::kF32);
  DeviceInvocations::Work work;
  for (const PromptEmbedding& prompt : prompts) {
    work.geometries.push_back(
        family.Geometry(plan.settings.max_sequence_length, plan.latents.grid()));
    work.invocations.push_back({&prompt, prediction});
  }
  const ImageCondition condition;
  DeviceInvocations device(stage, family, plan, condition, latents, work);
  for (int step = 0; step < steps; ++step) {
    device.session().BeginStep(step);
    device.Predict(500);
  }
  return stage.workspace().peak_bytes();
}

size_t DecodingPeak(const ModelFamily& family, const GenerationPlan& plan) {
  ModelDevices devices;
  const ModelDevices::Lease lease = devices.Use(plan, ModelStage::kDecode);
  Context context(plan.decoder, plan.threads);
  const Tensor latents =
      Tensor::Zeros({1, plan.latents.tokens(), plan.latents.token_channels()}, DType::kF32);
  family.Decode(
      context, plan.latents, latents, [](ConstTensorView) {}, [] {});
  return context.workspace().peak_bytes();
}

void ExpectPlanned(const fs::path& folder, GenerateOptions options) {
  const ModelFolder model(folder);
  const std::unique_ptr<ModelFamily> family = LoadModelFamily(model);
  DryRuns dry_runs;
  for (const char* sparsity : {"off", "auto"}) {
    for (const auto& [dtype, threads] : {std::pair{"f32", 1}, {"f32", 2}, {"bf16", 2}}) {
      SCOPED_TRACE(folder.string() + " " + sparsity + " " + dtype + " " + std::to_string(threads));
      options.sparsity = sparsity;
      options.dtype = dtype;
      options.threads = threads;
      options.steps = 4;
      options.overrides.clear();
      if (options.sparsity == "auto") {
        options.overrides = {"attn.is_enabled=true", "mlp.is_enabled=true",
                             "attn.full_step_schedule=[0, 2]", "mlp.full_step_every=2",
                             "step_caching.skip_step_schedule=[3]"};
      }
      const GenerationPlan plan = PlanGeneration(*family, options, dry_runs);
      const std::vector<PromptEmbedding> prompts = Prompts(*family, plan);
      ExpectClose(plan.shares.front().workspace, DenoisingPeak(*family, plan, prompts, 4),
                  "denoising");
      ExpectClose(plan.decoding_workspace, DecodingPeak(*family, plan), "decoding");
    }
  }
}

GenerateOptions Size(int width, int height, int frames = 0) {
  GenerateOptions options;
  options.width = width;
  options.height = height;
  if (frames > 0) options.num_frames = frames;
  options.max_sequence_length = 32;
  return options;
}

TEST(GenerationPlan, OfThePictureDemoIsWhatIsTaken) { ExpectPlanned(kDemoModel, Size(128, 96)); }

TEST(GenerationPlan, OfTheFilmDemoIsWhatIsTaken) {
  ExpectPlanned(fs::path(TAMIAS_SOURCE_DIR) / "models/demo-video", Size(64, 48, 9));
}

// All that is planned, as text.
std::string TextOf(const GenerationPlan& plan) {
  std::string text;
  for (const MemoryEntry& entry : plan.memory.entries) {
    text += fmt::format("{} {}\n", entry.name, entry.bytes);
  }
  return text + fmt::format("{} {} {} {} {}", plan.memory.peak_bytes, plan.new_bytes,
                            plan.shares.front().workspace, plan.decoding_workspace,
                            plan.shares.front().state.ToString());
}

TEST(GenerationPlan, IsTheSameWhetherItsStagesRunDryAgainOrNot) {
  const std::unique_ptr<ModelFamily> family = LoadModelFamily(ModelFolder(kDemoModel));
  std::vector<GenerateOptions> all(7, Size(128, 96));
  all[1].width = 64;
  all[2].sparsity = "off";
  all[3].overrides = {"attn.top_keys=0.5"};
  all[4].true_cfg_scale = 3;
  all[5].dtype = "bf16";
  all[6].threads = 2;
  for (GenerateOptions& options : all) options.threads = std::max(options.threads, 1);
  DryRuns shared;
  for (int round = 0; round < 2; ++round) {
    for (const GenerateOptions& options : all) {
      DryRuns own;
      EXPECT_EQ(TextOf(PlanGeneration(*family, options, shared)),
                TextOf(PlanGeneration(*family, options, own)));
    }
  }
}

TEST(GenerationPlan, NamesWhatNoMachineCouldHold) {
  const std::unique_ptr<ModelFamily> family = LoadModelFamily(ModelFolder(kDemoModel));
  DryRuns dry_runs;
  EXPECT_NE(ErrorOf([&] { PlanGeneration(*family, Size(1 << 20, 1 << 20), dry_runs); },
                    ErrorCode::kOutOfMemory),
            "");
}

}  // namespace
}  // namespace tamias
