// The whole Wan image-to-video pipeline against diffusers: same folder, picture, prompt, seed, size
// and steps.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "tamias/error.h"
#include "tests/support/golden.h"
#include "tests/support/linked_model.h"

namespace tamias {
namespace {

const fs::path kData = fs::path(TAMIAS_TEST_DATA) / "pipeline/tiny-wan-image";

// A checkpoint folder of links to the fixture's components and the demo model's tokenizer.
class WanImagePipelineTest : public LinkedModelTest {
 protected:
  WanImagePipelineTest() : LinkedModelTest("tiny-wan-image") {
    LinkWan("tiny-wan-image");
    LinkAll({"image_encoder", "image_processor"}, kData);
  }

  GenerateOptions GoldenOptions() const {
    GenerateOptions options;
    options.prompt = golden_.metadata().at("prompt");
    options.negative_prompt = golden_.metadata().at("negative_prompt");
    options.image = ReadImage(kData / "picture.png");
    options.true_cfg_scale = 3;
    options.width = 48;
    options.height = 64;
    options.num_frames = 9;
    options.steps = 6;
    options.seed = 11;
    options.sparsity = "off";
    return options;
  }

  SafetensorsFile golden_{kData / "golden.safetensors"};
};

Image Mirrored(Image image) {
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width / 2; ++x) {
      const auto left = image.rgb.begin() + (y * image.width + x) * 3;
      std::swap_ranges(left, left + 3,
                       image.rgb.begin() + (y * image.width + image.width - 1 - x) * 3);
    }
  }
  return image;
}

TEST_F(WanImagePipelineTest, LatentsAndFramesMatchDiffusers) {
  const GenerateResult result = Pipeline(folder_).Generate(GoldenOptions());
  ExpectFilm(result, golden_, 16);
}

TEST_F(WanImagePipelineTest, AnotherPictureInMemoryMatchesDiffusers) {
  GenerateOptions options = GoldenOptions();
  options.image = Mirrored(*options.image);
  options.decode = false;
  const GenerateResult result = Pipeline(folder_).Generate(options);
  ExpectLatents(result, golden_.Get("mirrored_latents"));
  EXPECT_GT(RelativeL2(result.latents[0].values, ValuesOf(golden_.Get("latents"))), 0.01);
}

TEST_F(WanImagePipelineTest, SparseGenerationThatSelectsEverythingMatchesDiffusers) {
  GenerateOptions options = GoldenOptions();
  options.decode = false;
  options.sparsity = "wan-2.1";
  options.overrides = {"attn.top_keys=1", "attn.first_n_dense_layers=0",
                       "step_caching.is_enabled=false"};
  const GenerateResult result = Pipeline(folder_).Generate(options);
  ExpectLatents(result, golden_.Get("latents"));
  EXPECT_THAT(result.report_json, testing::ContainsRegex("\"kind\": ?\"sparse\""));
}

TEST_F(WanImagePipelineTest, TheSecondFilmOfABatchHasTheSamePicture) {
  // Both of equal noise: one picture, encoded once, conditions every film alike.
  GenerateOptions options = GoldenOptions();
  options.num_images = 2;
  options.steps = 2;
  options.decode = false;
  const Pipeline pipeline(folder_);
  const GenerateResult both = pipeline.Generate(options);
  ASSERT_EQ(both.latents.size(), 2u);
  EXPECT_NE(both.latents[0].values, both.latents[1].values);
  EXPECT_THAT(both.report_json, testing::HasSubstr("70x50"));
}

TEST_F(WanImagePipelineTest, ProgressCountsThePicturesPieces) {
  GenerateOptions options = GoldenOptions();
  options.decode = false;
  int encoded = 0, total = 0;
  Pipeline(folder_).Generate(options, [&](const Progress& progress) {
    if (progress.stage == Stage::kEncodePrompt) {
      encoded = progress.step;
      total = progress.num_steps;
    }
    return true;
  });
  EXPECT_EQ(total, 2 + 1 + 3);  // two prompts, the vision encoder, latent frames
  EXPECT_EQ(encoded, total);
}

TEST_F(WanImagePipelineTest, ListsItsComponentsAndPlansTheEncoders) {
  const Pipeline pipeline(folder_);
  EXPECT_TRUE(pipeline.info().needs_image);
  std::vector<std::string> names;
  for (const ComponentInfo& component : pipeline.info().components) names.push_back(component.name);
  EXPECT_THAT(names, testing::ElementsAre("text_encoder", "image_encoder", "transformer", "vae"));
  const auto bytes = [&](const GenerateOptions& options, std::string_view name) {
    for (const MemoryEntry& entry : pipeline.PlanMemory(options).entries) {
      if (entry.name == name) return entry.bytes;
    }
    return size_t{0};
  };
  GenerateOptions small, large;
  small.width = small.height = 64;
  large.width = large.height = 128;
  for (const char* name : {"picture, encoded", "workspace of the picture's encoders"}) {
    EXPECT_GT(bytes(small, name), 0u) << name;
    EXPECT_GT(bytes(large, name), 3 * bytes(small, name)) << name;
  }
}

TEST_F(WanImagePipelineTest, TheFilmsSizeFollowsThePicture) {
  const Pipeline pipeline(folder_);
  const auto size = [&](int width, int height, std::optional<int> film_width,
                        std::optional<int> film_height) {
    GenerateOptions options;
    options.image = Image{width, height, std::vector<uint8_t>(size_t{3} * width * height)};
    options.width = film_width;
    options.height = film_height;
    const std::string text = pipeline.PngText(options, 0).at("tamias");
    const auto number = [&](const std::string& name) {
      const size_t at = text.find("\"" + name + "\":");
      return std::stoi(text.substr(at + name.size() + 3));
    };
    return std::pair{number("width"), number("height")};
  };
  const std::optional<int> none;
  // As diffusers' example computes it for an area of 832 x 480.
  EXPECT_EQ(size(832, 480, none, none), (std::pair{832, 480}));
  EXPECT_EQ(size(1000, 1000, none, none), (std::pair{624, 624}));
  EXPECT_EQ(size(400, 300, none, none), (std::pair{720, 544}));
  EXPECT_EQ(size(300, 400, none, none), (std::pair{544, 720}));
  EXPECT_EQ(size(70, 50, 320, none), (std::pair{320, 224}));
  EXPECT_EQ(size(70, 50, none, 320), (std::pair{448, 320}));
  EXPECT_EQ(size(70, 50, 48, 64), (std::pair{48, 64}));
  EXPECT_EQ(size(990, 10, 48, none), (std::pair{48, 16}));
}

TEST_F(WanImagePipelineTest, RefusesOptionsThatDoNotFit) {
  GenerateOptions options = GoldenOptions();
  options.image.reset();
  EXPECT_EQ(ErrorOf(options), "image: this model makes films of a picture, and none is given");
  options.image = Image{2, 2, std::vector<uint8_t>(11)};
  EXPECT_EQ(ErrorOf(options), "image: 2x2 pixels: expected 12 bytes, found 11");
  options.image = Image{1000, 10, std::vector<uint8_t>(30'000)};
  EXPECT_THAT(ErrorOf(options), testing::HasSubstr("differ less than 100-fold, found 1000x10"));
  options.image = Image{0, 10, {}};
  EXPECT_THAT(ErrorOf(options), testing::HasSubstr("found 0x10"));
}

TEST_F(WanImagePipelineTest, RefusesComponentsThatDoNotFitEachOther) {
  Edit(kData, "image_processor", "preprocessor_config.json", "\"height\": 20,\n    \"width\": 20",
       "\"height\": 15, \"width\": 15");
  EXPECT_THAT(LoadError(),
              testing::HasSubstr("field 'crop_size' is 15, but image_encoder takes 20"));
  Link("image_processor", kData / "image_processor");
  Link("image_encoder", fs::path(TAMIAS_TEST_DATA) / "models/clip-vision-legacy-tiny");
  EXPECT_THAT(LoadError(), testing::HasSubstr("crop_size"));
  Link("image_encoder", kData / "image_encoder");
  Edit(kData, "transformer", "config.json", "\"pos_embed_seq_len\": null",
       "\"pos_embed_seq_len\": 34");
  EXPECT_THAT(LoadError(), testing::HasSubstr("pos_embed"));
  Link("transformer", fs::path(TAMIAS_TEST_DATA) / "pipeline/tiny-wan/transformer");
  EXPECT_THAT(LoadError(), testing::HasSubstr("field 'in_channels' is 4, but the VAE gives 12"));
  Link("transformer", kData / "transformer");
  for (const char* component : {"image_encoder", "image_processor"}) {
    fs::remove_all(folder_ / component);
    EXPECT_THAT(LoadError(), testing::HasSubstr(std::string(component) + "' is missing"));
    Link(component, kData / component);
  }
}

// The text-to-video model beside it.
class WanTextPipelineTest : public LinkedModelTest {
 protected:
  WanTextPipelineTest() : LinkedModelTest("tiny-wan-text") { LinkWan("tiny-wan"); }
};

TEST_F(WanTextPipelineTest, RefusesAPicture) {
  GenerateOptions options;
  options.image = Image{1, 1, {0, 0, 0}};
  EXPECT_EQ(ErrorOf(options), "image: this model makes films of text alone");
  const Pipeline pipeline(folder_);
  EXPECT_FALSE(pipeline.info().needs_image);
  EXPECT_THROW(pipeline.PlanMemory(options), Error);
}

TEST_F(WanTextPipelineTest, RefusesAnImageToVideoTransformer) {
  Link("transformer", kData / "transformer");
  GenerateOptions options;
  EXPECT_THAT(ErrorOf(options),
              testing::HasSubstr("field 'image_dim' is 24, but a text-to-video pipeline gives 0"));
}

}  // namespace
}  // namespace tamias
