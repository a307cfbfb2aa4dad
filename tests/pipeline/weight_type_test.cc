// Weights of 8 bits on the CPU: pictures near those of the weights as they are, and what the plan
// says of them.
#include <gmock/gmock.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "tests/support/quantised_model.h"

namespace tamias {
namespace {

using ::testing::HasSubstr;

class WeightType : public LinkedModelTest {
 protected:
  WeightType() : LinkedModelTest("weight-type") {}

  static GenerateOptions Picture(const char* dtype, const char* sparsity) {
    GenerateOptions options = SmallPicture(/*steps=*/4);
    options.true_cfg_scale = 2;
    options.dtype = dtype;
    options.sparsity = sparsity;
    if (options.sparsity != "off") {
      options.overrides = {"attn.full_step_schedule={0, 1}", "attn.mbm=32", "mlp.mbm=128",
                           "mlp.is_enabled=true", "step_caching.is_enabled=false"};
    }
    return options;
  }

  static GenerateOptions In8Bits(GenerateOptions options) {
    options.weight_dtype = "fp8_e4m3";
    return options;
  }
};

// Products of the same numbers, in another order of additions at most.
TEST_F(WeightType, PicturesAreThoseOfRoundedWeights) {
  LinkDemoWithoutTransformer();
  WriteQuantised(kDemoModel / "transformer", folder_ / "transformer");
  const Pipeline rounded(folder_), pipeline(kDemoModel);
  for (const char* sparsity : {"off", "demo"}) {
    SCOPED_TRACE(sparsity);
    const GenerateOptions options = Picture("f32", sparsity);
    const GenerateResult found = pipeline.Generate(In8Bits(options));
    const GenerateResult expected = rounded.Generate(options);
    EXPECT_GT(Psnr(found.images.at(0), expected.images.at(0)), 60);
    EXPECT_EQ(nlohmann::json::parse(found.report_json).at("weight_dtype"), "fp8_e4m3");
    EXPECT_EQ(nlohmann::json::parse(expected.report_json).at("weight_dtype"), "auto");
  }
}

TEST_F(WeightType, PicturesAreNearThoseOfTheWeightsAsTheyAre) {
  const Pipeline pipeline(kDemoModel);
  for (const char* dtype : {"f32", "bf16"}) {
    SCOPED_TRACE(dtype);
    const GenerateOptions options = Picture(dtype, "off");
    const Image expected = pipeline.Generate(options).images.at(0);
    const double psnr = Psnr(pipeline.Generate(In8Bits(options)).images.at(0), expected);
    RecordProperty(std::string("psnr_") + dtype, std::to_string(psnr));
    EXPECT_GT(psnr, 25);
    EXPECT_LT(psnr, 60);
    // One pipeline keeps both.
    EXPECT_EQ(pipeline.Generate(options).images.at(0).rgb, expected.rgb);
  }
}

TEST_F(WeightType, ThePlanCountsBytesOfMatricesAndFloatsOfScales) {
  const Pipeline pipeline(kDemoModel);
  const auto entries = [&](const GenerateOptions& options) {
    std::map<std::string, size_t> bytes;
    for (const MemoryEntry& entry : pipeline.PlanMemory(options).entries) {
      bytes[entry.name] = entry.bytes;
    }
    return bytes;
  };
  const GenerateOptions options = Picture("bf16", "demo");
  const auto narrow = entries(In8Bits(options)), wide = entries(options);
  const auto of_8_bits = static_cast<double>(narrow.at("weights of transformer, in fp8_e4m3"));
  const auto of_16 = static_cast<double>(wide.at("weights of transformer, in bf16"));
  EXPECT_GT(of_8_bits, 0.5 * of_16);
  EXPECT_LT(of_8_bits, 0.55 * of_16);
  EXPECT_EQ(narrow.at("weights of vae, in bf16"), wide.at("weights of vae, in bf16"));
  EXPECT_GT(wide.at("weights prepared for sparse MLPs"), 0u);
  EXPECT_EQ(narrow.at("weights prepared for sparse MLPs"), 0u);
  EXPECT_GT(narrow.at("workspace of the transformer"), wide.at("workspace of the transformer"));
}

TEST_F(WeightType, WeightsThatAreNotFiniteAreNamed) {
  LinkDemoWithoutTransformer();
  fs::copy(kDemoModel / "transformer", folder_ / "transformer");
  const fs::path path = folder_ / "transformer/diffusion_pytorch_model.safetensors";
  std::vector<NamedTensor> tensors;
  std::optional<SafetensorsFile> file(kDemoModel / "transformer" / path.filename());
  const char* const kBroken = "transformer_blocks.1.ff.net.2.weight";
  Tensor broken = Tensor::CopyOf(file->Get(kBroken));
  broken.data<Float16>()[7] = ToFloat16(std::numeric_limits<float>::infinity());
  for (const auto& [name, entry] : file->entries()) {
    tensors.push_back({name, name == kBroken ? broken.view() : file->Get(name)});
  }
  WriteSafetensors(path, tensors);
  EXPECT_THAT(ErrorOf(In8Bits(Picture("f32", "off"))),
              HasSubstr(std::string("tensor '") + kBroken + "': element 7 is not a finite number"));
}

// As they were in force: "auto" is none.
TEST_F(WeightType, FilesSayTheTypes) {
  const Pipeline pipeline(kDemoModel);
  const auto types = [&](const GenerateOptions& options) {
    const auto png = nlohmann::json::parse(pipeline.PngText(options, 0).at("tamias"));
    const auto latents = nlohmann::json::parse(pipeline.LatentsText(options).at("tamias"));
    EXPECT_EQ(png, latents);
    return std::pair(png.at("dtype").get<std::string>(), png.at("weight_dtype").get<std::string>());
  };
  using Types = std::pair<std::string, std::string>;
  EXPECT_EQ(types(Picture("bf16", "off")), Types("bf16", "bf16"));
  EXPECT_EQ(types(In8Bits(Picture("bf16", "off"))), Types("bf16", "fp8_e4m3"));
  // The demo model's weights are f16, which the CPU computes with in f32 and a GPU as they are.
  GenerateOptions options = Picture("auto", "off");
  EXPECT_EQ(types(options), Types("f32", "f32"));
  EXPECT_EQ(types(In8Bits(options)), Types("f32", "fp8_e4m3"));
  options.device = "cuda";
  EXPECT_EQ(types(options), Types("f16", "f16"));
}

TEST_F(WeightType, OthersAreRefused) {
  GenerateOptions options = Picture("f32", "off");
  options.weight_dtype = "int4";
  EXPECT_EQ(
      tamias::ErrorOf([&] { Pipeline(kDemoModel).Generate(options); }, ErrorCode::kInvalidArgument),
      "weight_dtype: expected auto or fp8_e4m3, found 'int4'");
}

}  // namespace
}  // namespace tamias
