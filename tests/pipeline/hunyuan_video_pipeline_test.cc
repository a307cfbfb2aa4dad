// The whole HunyuanVideo pipeline against diffusers: same folder, prompt, seed, size and steps.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>

#include "tamias/tamias.h"
#include "tests/support/golden.h"
#include "tests/support/linked_model.h"

namespace tamias {
namespace {

const fs::path kTiny = fs::path(TAMIAS_TEST_DATA) / "pipeline/tiny-hunyuan-video";

// tiny-hunyuan-video with the CLIP of the demo model.
class HunyuanVideo : public LinkedModelTest {
 protected:
  HunyuanVideo() : LinkedModelTest("tiny-hunyuan") {
    LinkAll({"model_index.json", "scheduler", "text_encoder", "tokenizer", "transformer", "vae"},
            kTiny);
    Link("text_encoder_2", kDemoModel / "text_encoder");
    Link("tokenizer_2", kDemoModel / "tokenizer");
  }

  GenerateOptions Options() const {
    GenerateOptions options;
    options.prompt = golden_.metadata().at("prompt");
    options.width = 48;
    options.height = 64;
    options.num_frames = 17;
    options.steps = 6;
    options.guidance_scale = 4.5;
    options.max_sequence_length = 40;
    options.seed = 11;
    options.sparsity = "off";
    return options;
  }
  GenerateOptions GuidedOptions() const {
    GenerateOptions options = Options();
    options.negative_prompt = golden_.metadata().at("negative_prompt");
    options.true_cfg_scale = 3;
    return options;
  }

  SafetensorsFile golden_{kTiny / "golden.safetensors"};
};

TEST_F(HunyuanVideo, AFilmOfACutPromptMatchesDiffusers) {
  const Pipeline pipeline(folder_);
  EXPECT_THAT(pipeline.Warnings(Options()), testing::ElementsAre(testing::HasSubstr("40 tokens")));
  const GenerateResult result = pipeline.Generate(Options());
  ExpectFilm(result, golden_, 24);
}

TEST_F(HunyuanVideo, TrueGuidanceWithPromptsOfTwoLengthsMatchesDiffusers) {
  GenerateOptions options = GuidedOptions();
  options.decode = false;
  const GenerateResult result = Pipeline(folder_).Generate(options);
  ExpectLatents(result, golden_.Get("guided_latents"));
  EXPECT_TRUE(result.videos.empty());
}

// Every column and neuron selected, in voxel order with tails: nothing may change.
TEST_F(HunyuanVideo, SparseStepsThatSelectEverythingMatchDiffusers) {
  GenerateOptions options = GuidedOptions();
  options.decode = false;
  options.sparsity = "hunyuan-video";
  options.overrides = kSelectEverything;
  options.overrides.push_back("step_caching.is_enabled=false");
  const GenerateResult result = Pipeline(folder_).Generate(options);
  EXPECT_THAT(result.report_json, testing::HasSubstr("sparse"));
  ExpectLatents(result, golden_.Get("guided_latents"));
}

TEST_F(HunyuanVideo, SaysWhichSizesItMakes) {
  GenerateOptions options = Options();
  options.num_frames = 16;
  EXPECT_EQ(ErrorOf(options),
            "num_frames: expected one more than a multiple of 4, found 16 (nearest: 17)");
  options.num_frames = 0;
  EXPECT_THAT(ErrorOf(options), testing::HasSubstr("num_frames"));
  options = Options();
  options.height = 72;
  EXPECT_EQ(ErrorOf(options), "height: expected a multiple of 16, found 72 (nearest: 80)");
  options.width = options.height = 1 << 20;
  EXPECT_THAT(ErrorOf(options), testing::HasSubstr("no machine has the memory"));
}

TEST_F(HunyuanVideo, NamesComponentsThatDoNotFitEachOther) {
  Link("text_encoder_2", kDemoModel / "text_encoder_2");  // T5
  EXPECT_THAT(ErrorOf(Options()), testing::HasSubstr("text_encoder_2"));
  Link("text_encoder_2", kDemoModel / "text_encoder");
  Edit(kTiny, "transformer", "config.json", "\"text_embed_dim\": 32", "\"text_embed_dim\": 33");
  EXPECT_THAT(ErrorOf(Options()), testing::HasSubstr("context_embedder"));
  Edit(kTiny, "transformer", "config.json", "\"image_condition_type\": null",
       "\"image_condition_type\": \"token_replace\"");
  EXPECT_THAT(ErrorOf(Options()), testing::HasSubstr("field 'image_condition_type'"));
}

// diffusers would average no tokens at all and make a film of NaN.
TEST_F(HunyuanVideo, RefusesATokenizerThatLeavesNothingOfThePrompt) {
  Edit(kTiny, "tokenizer", "tokenizer.json", "\"content\": \"<|pad|>\"",
       "\"content\": \"Describe the video by detailing the following\"");
  fs::remove(folder_ / "tokenizer/tokenizer_config.json");  // names a padding token
  EXPECT_THAT(ErrorOf(Options()),
              testing::HasSubstr("tokenizer: HunyuanVideo's instructions take 90 tokens, expected "
                                 "more than the 95 that are dropped"));
}

TEST_F(HunyuanVideo, TakesTheFamilysDefaults) {
  const Pipeline pipeline(folder_);
  EXPECT_TRUE(pipeline.info().makes_videos);
  EXPECT_EQ(pipeline.info().default_profile, "hunyuan-video");
  EXPECT_EQ(pipeline.info().defaults.width, 1280);
  EXPECT_EQ(pipeline.info().defaults.height, 720);
  EXPECT_EQ(pipeline.info().defaults.fps, 24);
  EXPECT_EQ(pipeline.info().defaults.guidance_scale, 6);
  EXPECT_EQ(pipeline.size_multiple(), 16);
  EXPECT_EQ(pipeline.NumImageTokens({}), 118'800);
  EXPECT_EQ(pipeline.NumTextTokens({}), 256);
}

// Patches of 4 ask for sides in multiples of 32, of which the family's 720 is none.
TEST_F(HunyuanVideo, LargePatchesDoNotRefuseTheDefaultSize) {
  Edit(kTiny, "transformer", "config.json", "\"patch_size\": 2", "\"patch_size\": 4");
  const SafetensorsFile source(kTiny / "transformer/diffusion_pytorch_model.safetensors");
  std::vector<Tensor> larger;  // weights are random: any will do
  std::vector<NamedTensor> tensors;
  for (const auto& [name, entry] : source.entries()) {
    const ConstTensorView tensor = source.Get(name);
    Shape shape = tensor.shape();
    if (name == "x_embedder.proj.weight") shape[3] = shape[4] = 4;
    if (name.starts_with("proj_out.")) shape[0] *= 4;
    if (!(shape == tensor.shape())) larger.push_back(Tensor::Zeros(shape, DType::kF32));
    tensors.push_back({name, shape == tensor.shape() ? tensor : larger.back().view()});
  }
  WriteSafetensors(folder_ / "transformer/diffusion_pytorch_model.safetensors", tensors);
  const Pipeline pipeline(folder_);
  EXPECT_EQ(pipeline.size_multiple(), 32);
  EXPECT_EQ(pipeline.info().defaults.height, 704);
  GenerateOptions options = Options();
  options.width = 96;
  options.num_frames = 5;
  options.steps = 1;
  EXPECT_EQ(pipeline.Generate(options).videos.at(0).frames.at(0).width, 96);
  options.height = 720;
  EXPECT_THAT(ErrorOf(options), testing::HasSubstr("height: expected a multiple of 32, found 720"));
}

TEST_F(HunyuanVideo, NamesTheNormThatItDoesNotHave) {
  Edit(kTiny, "transformer", "config.json", "\"qk_norm\": \"rms_norm\"", "\"qk_norm\": null");
  EXPECT_THAT(ErrorOf(Options()),
              testing::HasSubstr("transformer/config.json: field 'qk_norm': only \"rms_norm\" is"));
}

TEST_F(HunyuanVideo, TheCInterfaceGivesFilms) {
  tamias_pipeline* pipeline = nullptr;
  ASSERT_EQ(tamias_pipeline_load(folder_.c_str(), &pipeline), TAMIAS_OK) << tamias_last_error();
  tamias_options* options = nullptr;
  ASSERT_EQ(tamias_options_create(&options), TAMIAS_OK);
  for (const auto& [name, value] : std::map<const char*, const char*>{{"prompt", "a star"},
                                                                      {"width", "32"},
                                                                      {"height", "16"},
                                                                      {"frames", "5"},
                                                                      {"fps", "8"},
                                                                      {"steps", "2"}}) {
    ASSERT_EQ(tamias_options_set(options, name, value), TAMIAS_OK) << tamias_last_error();
  }
  tamias_result* result = nullptr;
  ASSERT_EQ(tamias_generate(pipeline, options, nullptr, nullptr, &result), TAMIAS_OK)
      << tamias_last_error();
  EXPECT_EQ(tamias_result_num_images(result), 0);
  EXPECT_EQ(tamias_result_num_videos(result), 1);
  EXPECT_EQ(tamias_result_num_frames(result, 0), 5);
  EXPECT_EQ(tamias_result_num_frames(result, 1), 0);
  EXPECT_EQ(tamias_result_fps(result, 0), 8);
  const uint8_t* first = nullptr;
  const uint8_t* last = nullptr;
  int width = 0;
  int height = 0;
  EXPECT_EQ(tamias_result_frame(result, 0, 0, &first, &width, &height), TAMIAS_OK);
  EXPECT_EQ(tamias_result_frame(result, 0, 4, &last, &width, &height), TAMIAS_OK);
  EXPECT_EQ(width, 32);
  EXPECT_EQ(height, 16);
  EXPECT_FALSE(std::equal(first, first + 32 * 16 * 3, last));
  EXPECT_EQ(tamias_result_frame(result, 0, 5, &last, &width, &height), TAMIAS_INVALID_ARGUMENT);
  EXPECT_EQ(tamias_result_frame(result, 0, -1, &last, &width, &height), TAMIAS_INVALID_ARGUMENT);
  const fs::path film = folder_ / "film.mp4";
  EXPECT_EQ(tamias_result_write_video(result, 0, film.c_str()), TAMIAS_OK) << tamias_last_error();
  EXPECT_GT(fs::file_size(film), 500u);
  EXPECT_EQ(tamias_result_write_video(result, 0, "film.avi"), TAMIAS_INVALID_ARGUMENT);
  tamias_result_destroy(result);
  tamias_options_destroy(options);
  tamias_pipeline_destroy(pipeline);
}

}  // namespace
}  // namespace tamias
