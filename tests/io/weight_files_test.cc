// Which files hold a component's weights: the choices of diffusers' and transformers' loaders, with
// empty files in the place of tensors.
#include "io/weight_files.h"

#include <gmock/gmock.h>

#include <fmt/format.h>

#include "tests/support/errors.h"
#include "tests/support/test_files.h"

namespace tamias {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr auto kDiffusers = WeightLibrary::kDiffusers;
constexpr auto kTransformers = WeightLibrary::kTransformers;

class WeightFilesTest : public ::testing::Test {
 protected:
  void Add(const std::string& name) const { WriteBytes(folder_ / name, ""); }
  void AddIndex(const std::string& name, const std::vector<std::string>& shards) const {
    std::string entries;
    for (const std::string& shard : shards) {
      entries += fmt::format("{}\"{}\": \"{}\"", entries.empty() ? "" : ", ", shard, shard);
    }
    WriteBytes(folder_ / name, fmt::format("{{\"weight_map\": {{{}}}}}", entries));
  }

  std::vector<std::string> Found(WeightLibrary library, const std::string& variant = "") const {
    std::vector<std::string> names;
    for (const auto& path : FindWeightFiles(folder_.path(), {library, variant}).files) {
      names.push_back(path.filename().string());
    }
    return names;
  }
  void ExpectFailure(ErrorCode code, std::string_view text, const std::string& variant = "") const {
    ExpectError(code, text, [&] { Found(kDiffusers, variant); });
  }

  TemporaryFolder folder_;
};

TEST_F(WeightFilesTest, DiffusersTakesShardsBeforeASingleFile) {
  Add("diffusion_pytorch_model.safetensors");
  EXPECT_THAT(Found(kDiffusers), ElementsAre("diffusion_pytorch_model.safetensors"));
  Add("b-2.safetensors");
  Add("b-1.safetensors");
  AddIndex("diffusion_pytorch_model.safetensors.index.json",
           {"b-2.safetensors", "b-1.safetensors"});
  EXPECT_THAT(Found(kDiffusers), ElementsAre("b-1.safetensors", "b-2.safetensors"));
}

TEST_F(WeightFilesTest, TransformersTakesASingleFileBeforeShards) {
  Add("a.safetensors");
  AddIndex("model.safetensors.index.json", {"a.safetensors"});
  EXPECT_THAT(Found(kTransformers), ElementsAre("a.safetensors"));
  Add("model.safetensors");
  EXPECT_THAT(Found(kTransformers), ElementsAre("model.safetensors"));
}

TEST_F(WeightFilesTest, EachLibraryPrefersItsOwnNames) {
  Add("model.safetensors");
  Add("diffusion_pytorch_model.safetensors");
  EXPECT_THAT(Found(kDiffusers), ElementsAre("diffusion_pytorch_model.safetensors"));
  EXPECT_THAT(Found(kTransformers), ElementsAre("model.safetensors"));
}

TEST_F(WeightFilesTest, AnIndexOfWhichNothingIsThereLeavesTheWordToASingleFile) {
  AddIndex("diffusion_pytorch_model.safetensors.index.json", {"a.safetensors", "b.safetensors"});
  EXPECT_THAT(Found(kDiffusers), ElementsAre("a.safetensors", "b.safetensors"));  // fails when read
  Add("diffusion_pytorch_model.safetensors");
  EXPECT_THAT(Found(kDiffusers), ElementsAre("diffusion_pytorch_model.safetensors"));
  Add("a.safetensors");  // half of it: not the old file, silently
  EXPECT_THAT(Found(kDiffusers), ElementsAre("a.safetensors", "b.safetensors"));
}

TEST_F(WeightFilesTest, LinksToNothingCountOnlyWhereThereIsNothingElse) {
  std::filesystem::create_symlink("nowhere", folder_ / "model.safetensors");
  EXPECT_THAT(Found(kTransformers), ElementsAre("model.safetensors"));
  Add("a.safetensors");
  AddIndex("model.safetensors.index.json", {"a.safetensors"});
  EXPECT_THAT(Found(kTransformers), ElementsAre("a.safetensors"));
}

TEST_F(WeightFilesTest, AVariantHasNamesOfItsOwn) {
  Add("diffusion_pytorch_model.safetensors");
  Add("diffusion_pytorch_model.fp16.safetensors");
  EXPECT_THAT(Found(kDiffusers), ElementsAre("diffusion_pytorch_model.safetensors"));
  EXPECT_THAT(Found(kDiffusers, "fp16"), ElementsAre("diffusion_pytorch_model.fp16.safetensors"));
  EXPECT_EQ(FindWeightFiles(folder_.path(), {kDiffusers, "fp16"}).variant, "fp16");
  // As in diffusers, a variant that a component lacks gives its plain weights.
  EXPECT_THAT(Found(kDiffusers, "bf16"), ElementsAre("diffusion_pytorch_model.safetensors"));
  EXPECT_EQ(FindWeightFiles(folder_.path(), {kDiffusers, "bf16"}).variant, "");
}

TEST_F(WeightFilesTest, IndicesOfVariantsHaveTwoForms) {
  for (const char* index : {"diffusion_pytorch_model.safetensors.index.fp16.json",
                            "diffusion_pytorch_model.safetensors.fp16.index.json"}) {
    const std::string shard = "diffusion_pytorch_model.fp16-00001-of-00001.safetensors";
    Add(shard);
    AddIndex(index, {shard});
    EXPECT_THAT(Found(kDiffusers, "fp16"), ElementsAre(shard)) << index;
    EXPECT_THAT(WeightVariants(folder_.path()), ElementsAre("fp16")) << index;
    std::filesystem::remove(folder_ / index);
  }
}

TEST_F(WeightFilesTest, WithoutAChoiceTheOnlyVariantIsTaken) {
  Add("model.fp16.safetensors");
  EXPECT_THAT(Found(kTransformers), ElementsAre("model.fp16.safetensors"));
  ExpectFailure(ErrorCode::kNotFound,
                "no weights of the variant 'bf16' and no plain ones; found: 'fp16'", "bf16");
  Add("model.non_ema.safetensors");
  ExpectFailure(ErrorCode::kNotFound,
                "only variants of the weights, 'fp16', 'non_ema': choose one with --variant");
  EXPECT_THAT(Found(kTransformers, "non_ema"), ElementsAre("model.non_ema.safetensors"));
  Add("model.safetensors");
  EXPECT_THAT(Found(kTransformers), ElementsAre("model.safetensors"));
  EXPECT_THAT(WeightVariants(folder_.path()), ElementsAre("", "fp16", "non_ema"));
}

TEST_F(WeightFilesTest, OtherNamesOfIndicesServeWhereNothingElseDoes) {
  Add("a.safetensors");
  AddIndex("other.safetensors.index.json", {"a.safetensors"});
  EXPECT_THAT(Found(kDiffusers), ElementsAre("a.safetensors"));
  AddIndex("another.safetensors.index.json", {"a.safetensors"});
  ExpectFailure(ErrorCode::kInvalidFile,
                "two index files, another.safetensors.index.json and other.safetensors.index.json");
  Add("model.safetensors");
  EXPECT_THAT(Found(kDiffusers), ElementsAre("model.safetensors"));
}

TEST_F(WeightFilesTest, SaysWhatIsThereInThePlaceOfWeights) {
  ExpectFailure(ErrorCode::kNotFound, "no weights (diffusion_pytorch_model.safetensors, model.saf");
  EXPECT_THAT(WeightVariants(folder_.path()), IsEmpty());
  const auto alone = [&](const char* name, ErrorCode code, const char* text) {
    Add(name);
    ExpectFailure(code, text);
    std::filesystem::remove(folder_ / name);
  };
  alone("diffusion_pytorch_model.bin", ErrorCode::kNotFound,
        "diffusion_pytorch_model.bin is a PyTorch checkpoint (pickle), which is not read");
  alone("model.ckpt", ErrorCode::kNotFound, "model.ckpt is a PyTorch checkpoint (pickle)");
  alone("flux-q4_0.gguf", ErrorCode::kUnsupported, "flux-q4_0.gguf holds quantised weights");
  alone("model-00001-of-00002.safetensors", ErrorCode::kNotFound,
        "model-00001-of-00002.safetensors is one of several files, and their index");
}

}  // namespace
}  // namespace tamias
