// The whole Wan 2.2 pipelines with two transformers against diffusers: same folder, picture,
// prompt, seed, size and steps. Steps 0 to 2 of 8 are the first transformer's.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "tamias/error.h"
#include "tamias/weights.h"
#include "tests/support/golden.h"
#include "tests/support/linked_model.h"

namespace tamias {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const fs::path kFixtures = fs::path(TAMIAS_TEST_DATA) / "pipeline";

class Wan22PipelineTest : public LinkedModelTest, public testing::WithParamInterface<const char*> {
 protected:
  Wan22PipelineTest() : LinkedModelTest(GetParam()) {
    LinkAll({"model_index.json", "transformer", "transformer_2"}, data_);
    LinkAll({"text_encoder", "vae", "scheduler"}, kFixtures / "tiny-wan");
    Link("tokenizer", kDemoModel / "tokenizer_2");
  }

  bool TakesImage() const { return data_.filename() == "tiny-wan-2.2-image"; }

  GenerateOptions GoldenOptions() const {
    GenerateOptions options;
    options.prompt = golden_.metadata().at("prompt");
    options.negative_prompt = golden_.metadata().at("negative_prompt");
    if (TakesImage()) options.image = ReadImage(kFixtures / "tiny-wan-image/picture.png");
    options.true_cfg_scale = 3;
    options.true_cfg_scale_2 = 2;
    options.width = 48;
    options.height = 64;
    options.num_frames = 9;
    options.steps = 8;
    options.max_sequence_length = 40;
    options.seed = 11;
    options.sparsity = "off";
    options.decode = false;
    return options;
  }
  // With the family's profile and these changes to it.
  GenerateOptions SparseOptions(const std::vector<std::string>& overrides) const {
    GenerateOptions options = GoldenOptions();
    options.sparsity = "auto";
    options.overrides = overrides;
    return options;
  }

  // The kinds of the steps, as progress tells them.
  static GenerateResult GenerateWatched(const Pipeline& pipeline, const GenerateOptions& options,
                                        std::vector<std::string>& kinds) {
    return pipeline.Generate(options, [&](const Progress& progress) {
      if (progress.stage == Stage::kDenoise && progress.step > 0) {
        kinds.push_back(progress.step_kind);
      }
      return true;
    });
  }

  // Another boundary in the index.
  void SetBoundary(double ratio) const {
    nlohmann::json index = nlohmann::json::parse(ReadBytes(data_ / "model_index.json"));
    index["boundary_ratio"] = ratio;
    WriteIndex(index.dump());
  }

  const fs::path data_ = kFixtures / GetParam();
  SafetensorsFile golden_{data_ / "golden.safetensors"};
};

TEST_P(Wan22PipelineTest, LatentsAndFramesMatchDiffusers) {
  GenerateOptions options = GoldenOptions();
  options.decode = true;
  const GenerateResult result = Pipeline(folder_).Generate(options);
  ExpectFilm(result, golden_, 16);
}

TEST_P(Wan22PipelineTest, TheSecondScaleIsTheFirstUnlessGiven) {
  GenerateOptions options = GoldenOptions();
  options.true_cfg_scale_2.reset();
  const Pipeline pipeline(folder_);
  EXPECT_EQ(pipeline.Settings(options).true_cfg_scale_2, 3);
  ExpectLatents(pipeline.Generate(options), golden_.Get("one_scale_latents"));
}

TEST_P(Wan22PipelineTest, SparseGenerationThatSelectsEverythingMatchesDiffusers) {
  std::vector<std::string> kinds;
  const GenerateResult result = GenerateWatched(
      Pipeline(folder_),
      SparseOptions({"attn.top_keys=1", "attn.first_n_dense_layers=0", "mlp.is_enabled=true",
                     "mlp.top_keys=1", "mlp.first_n_dense_layers=0", "mlp.counts_multiple_of=1",
                     "step_caching.is_enabled=false"}),
      kinds);
  ExpectLatents(result, golden_.Get("latents"));
  // Each transformer needs two full steps before it can be sparse.
  EXPECT_THAT(kinds,
              ElementsAre("full", "full", "sparse", "full", "full", "sparse", "sparse", "sparse"));
}

TEST_P(Wan22PipelineTest, NoSkippedStepReusesWhatTheFirstTransformerGave) {
  std::vector<std::string> kinds;
  const GenerateResult result =
      GenerateWatched(Pipeline(folder_),
                      SparseOptions({"attn.is_enabled=false", "step_caching.reuse=prediction",
                                     "steps=8", "step_caching.skip_step_schedule=[1, 3, 4, 6]"}),
                      kinds);
  ExpectLatents(result, golden_.Get("skipped_latents"));
  EXPECT_THAT(kinds, ElementsAre("full", "skip", "full", "full", "skip", "full", "skip", "full"));
}

TEST_P(Wan22PipelineTest, TheSecondTransformerBeginsAtTheBoundary) {
  EXPECT_EQ(Pipeline(folder_).SecondExpertStep(GoldenOptions()), 3);
  GenerateOptions few = GoldenOptions();
  few.steps = 1;
  EXPECT_EQ(Pipeline(folder_).SecondExpertStep(few), 0);
  for (const double ratio : {0.0, 1.0}) {  // all steps are the first's, or all the second's
    SetBoundary(ratio);
    EXPECT_EQ(Pipeline(folder_).SecondExpertStep(GoldenOptions()), 0) << ratio;
  }
}

TEST_P(Wan22PipelineTest, OneTransformerTwiceIsOneModel) {
  // What changes at the boundary is the transformer and the scale of guidance, nothing else.
  Link("transformer_2", data_ / "transformer");
  GenerateOptions options = GoldenOptions();
  options.true_cfg_scale_2.reset();
  const GenerateResult two = Pipeline(folder_).Generate(options);
  SetBoundary(0);
  const GenerateResult one = Pipeline(folder_).Generate(options);
  EXPECT_EQ(two.latents[0].values, one.latents[0].values);
}

TEST_P(Wan22PipelineTest, DriftIsNotMeasuredAcrossTheBoundary) {
  const GenerateResult result = Pipeline(folder_).Generate(
      SparseOptions({"attn.top_keys=0.3", "attn.random_keys=0", "attn.local_voxels=0",
                     "attn.first_n_dense_layers=0", "attn.counts_multiple_of=1", "attn.mbm=12",
                     "attn.full_step_every=2", "step_caching.is_enabled=false"}));
  EXPECT_GT(result.attention_sparsity, 0.1);
  std::vector<bool> is_measured;
  const nlohmann::json report = nlohmann::json::parse(result.report_json);
  for (const nlohmann::json& step : report.at("steps")) {
    is_measured.push_back(!step.at("attention_drift").is_null());
  }
  // Full steps are 0, 1, 2, then 3, 4, 6: of each transformer the third measures.
  EXPECT_THAT(is_measured, ElementsAre(false, false, true, false, false, false, true, false));
}

TEST_P(Wan22PipelineTest, ListsAndPlansBothTransformers) {
  const Pipeline pipeline(folder_);
  EXPECT_EQ(pipeline.info().default_profile, "wan-2.2");
  EXPECT_EQ(pipeline.info().needs_image, TakesImage());
  EXPECT_EQ(pipeline.info().defaults.true_cfg_scale_2, 5);
  std::vector<std::string> names;
  for (const ComponentInfo& component : pipeline.info().components) names.push_back(component.name);
  EXPECT_THAT(names, ElementsAre("text_encoder", "transformer", "transformer_2", "vae"));
  const auto bytes = [&](const GenerateOptions& options, std::string_view name) {
    for (const MemoryEntry& entry : pipeline.PlanMemory(options).entries) {
      if (entry.name == name) return entry.bytes;
    }
    return size_t{0};
  };
  GenerateOptions options = SparseOptions({"mlp.is_enabled=true"});
  EXPECT_GT(bytes(options, "denoising: weights of transformer_2 (mapped)"), 50'000u);
  // The second matrix of each MLP, [96, 64] f32, of two layers of two transformers.
  EXPECT_EQ(bytes(options, "weights prepared for sparse MLPs"), 2u * 2 * 96 * 64 * 4);
}

TEST_P(Wan22PipelineTest, SavesTheSecondScale) {
  const Pipeline pipeline(folder_);
  EXPECT_THAT(pipeline.PngText(GoldenOptions(), 0).at("tamias"),
              HasSubstr("\"true_cfg_scale_2\":2.0"));
  GenerateOptions options = GoldenOptions();
  options.true_cfg_scale = 1;
  EXPECT_THAT(pipeline.Warnings(options),
              testing::Contains(HasSubstr("true_cfg_scale_2 has no effect")));
  EXPECT_THAT(pipeline.Warnings(GoldenOptions()), testing::IsEmpty());
}

TEST_P(Wan22PipelineTest, ASkippedFirstStepOfTheSecondTransformerIsSaid) {
  const Pipeline pipeline(folder_);
  EXPECT_THAT(
      pipeline.Warnings(SparseOptions({"steps=8", "step_caching.skip_step_schedule=[3, 6]"})),
      ElementsAre(HasSubstr("step 3 cannot be skipped and is run")));
}

TEST_P(Wan22PipelineTest, RefusesAFolderWithoutTheSecondTransformer) {
  fs::remove(folder_ / "transformer_2");
  EXPECT_THAT(LoadError(ErrorCode::kNotFound), HasSubstr("component 'transformer_2' is missing"));
}

TEST_P(Wan22PipelineTest, RefusesTransformersThatDiffer) {
  Edit(data_, "transformer_2", "config.json", "\"num_layers\": 2", "\"num_layers\": 1");
  EXPECT_THAT(LoadError(ErrorCode::kInvalidFile),
              HasSubstr("transformer_2: tensor 'blocks.1...': there are more layers than the 1"));
  const Weights whole = Weights::Open(data_ / "transformer_2");
  std::vector<NamedTensor> tensors;
  for (const std::string& name : whole.names()) {
    if (!name.starts_with("blocks.1.")) tensors.push_back({name, whole.Get(name)});
  }
  WriteSafetensors(folder_ / "transformer_2/diffusion_pytorch_model.safetensors", tensors);
  EXPECT_THAT(LoadError(ErrorCode::kInvalidFile),
              HasSubstr("transformer_2: field 'num_layers' is 1, but transformer gives 2"));
  Link("transformer_2",
       kFixtures / (TakesImage() ? "tiny-wan-2.2" : "tiny-wan-2.2-image") / "transformer_2");
  EXPECT_THAT(LoadError(ErrorCode::kInvalidFile),
              HasSubstr(TakesImage()
                            ? "transformer_2: field 'in_channels' is 4, but transformer gives 12"
                            : "transformer_2: field 'in_channels' is 12, but transformer gives 4"));
}

TEST_P(Wan22PipelineTest, RefusesAnotherBoundaryByName) {
  SetBoundary(1.5);
  EXPECT_THAT(LoadError(ErrorCode::kInvalidFile), HasSubstr("field 'boundary_ratio'"));
}

INSTANTIATE_TEST_SUITE_P(TextAndImage, Wan22PipelineTest,
                         testing::Values("tiny-wan-2.2", "tiny-wan-2.2-image"),
                         [](const auto& test) {
                           return std::string(test.param) == "tiny-wan-2.2" ? "Text" : "Image";
                         });

}  // namespace
}  // namespace tamias
