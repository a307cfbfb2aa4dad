#include "io/lora_file.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <map>

#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"
#include "tests/support/test_files.h"

namespace tamias {
namespace {

using Tensors = std::map<std::string, Tensor>;

Tensor Number(float value) {
  Tensor tensor({}, DType::kF32);
  tensor.data<float>()[0] = value;
  return tensor;
}

class LoraFileTest : public ::testing::Test {
 protected:
  // A layer [5, 4] of rank 2 in the tensors STEM + down and STEM + up.
  Tensors Layer(const std::string& stem, const std::string& down = ".lora_A.weight",
                const std::string& up = ".lora_B.weight") {
    Tensors tensors;
    tensors[stem + down] = random_.Normal({2, 4});
    tensors[stem + up] = random_.Normal({5, 2});
    return tensors;
  }

  LoraFile Read(const Tensors& tensors, const std::map<std::string, std::string>& metadata = {}) {
    std::vector<NamedTensor> named;
    for (const auto& [name, tensor] : tensors) named.push_back({name, tensor.view()});
    WriteSafetensors(path_, named, metadata);
    return LoraFile(path_);
  }

  void ExpectRefused(ErrorCode code, const std::string& text, const Tensors& tensors,
                     const std::map<std::string, std::string>& metadata = {}) {
    ExpectError(code, text, [&] { Read(tensors, metadata); });
    ExpectError(code, path_.string(), [&] { Read(tensors, metadata); });
  }

  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "lora.safetensors";
  Random random_{1};
};

TEST_F(LoraFileTest, ReadsTheNamesOfEveryScript) {
  struct Case {
    std::string stem, down, up, component, name;
    bool is_joined;
  };
  const Case cases[] = {
      {"transformer.blocks.0.to_q", ".lora_A.weight", ".lora_B.weight", "transformer",
       "blocks.0.to_q", false},
      {"blocks.0.to_q", ".lora_A.default.weight", ".lora_B.default.weight", "transformer",
       "blocks.0.to_q", false},
      {"diffusion_model.blocks.0.q", ".lora_down.weight", ".lora_up.weight", "transformer",
       "blocks.0.q", false},
      {"model.diffusion_model.blocks.0.q", ".lora_A.weight", ".lora_B.weight", "transformer",
       "blocks.0.q", false},
      {"lora_unet_blocks_0_q", ".lora_down.weight", ".lora_up.weight", "transformer", "blocks_0_q",
       true},
      {"lora_unet__blocks_0_q", ".lora_down.weight", ".lora_up.weight", "transformer", "blocks_0_q",
       true},
      {"pipe.dit.blocks.0.q", ".lora_A.default.weight", ".lora_B.default.weight", "transformer",
       "blocks.0.q", false},
      {"text_encoders.clip_l.transformer.layers.0.q", ".lora_down.weight", ".lora_up.weight",
       "text_encoder", "layers.0.q", false},
      {"lora_te3_layers_0_q", ".lora_down.weight", ".lora_up.weight", "text_encoder_2",
       "layers_0_q", true},
      {"lora_transformer_blocks_0_q", ".lora_down.weight", ".lora_up.weight", "transformer",
       "blocks_0_q", true},
      {"text_encoder.layers.0.q", ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight",
       "text_encoder", "layers.0.q", false},
      {"text_encoder_2.layers.0.q", ".lora.down.weight", ".lora.up.weight", "text_encoder_2",
       "layers.0.q", false},
      {"lora_te_layers_0_q", ".lora_down.weight", ".lora_up.weight", "text_encoder", "layers_0_q",
       true},
      {"lora_te1_layers_0_q", ".lora_down.weight", ".lora_up.weight", "text_encoder", "layers_0_q",
       true},
      {"lora_te2_layers_0_q", ".lora_down.weight", ".lora_up.weight", "text_encoder_2",
       "layers_0_q", true},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.stem);
    const LoraFile file = Read(Layer(one.stem, one.down, one.up));
    ASSERT_EQ(file.layers().size(), 1u);
    const LoraLayer& layer = file.layers().front();
    EXPECT_EQ(layer.component, one.component);
    EXPECT_EQ(layer.name, one.name);
    EXPECT_EQ(layer.is_joined, one.is_joined);
    EXPECT_EQ(layer.down.shape(), Shape({2, 4}));
    EXPECT_EQ(layer.up.shape(), Shape({5, 2}));
    EXPECT_EQ(layer.scale, 1);
  }
}

TEST_F(LoraFileTest, AlphaIsDividedByTheRank) {
  Tensors tensors = Layer("transformer.a");
  tensors["transformer.a.alpha"] = Number(3);
  tensors.merge(Layer("transformer.b"));
  const LoraFile file = Read(tensors);
  ASSERT_EQ(file.layers().size(), 2u);
  EXPECT_EQ(file.layers()[0].scale, 1.5);
  EXPECT_EQ(file.layers()[1].scale, 1);
}

TEST_F(LoraFileTest, AlphaMayBeAWholeNumber) {
  Tensors tensors = Layer("transformer.a");
  tensors["transformer.a.alpha"] = Tensor({}, DType::kI64);
  tensors["transformer.a.alpha"].data<int64_t>()[0] = 6;
  EXPECT_EQ(Read(tensors).layers()[0].scale, 3);
}

TEST_F(LoraFileTest, PeftKeepsAlphaBesideTheFile) {
  Tensors tensors = Layer("base_model.model.blocks.0.to_q");
  ExpectRefused(ErrorCode::kNotFound, "PEFT keeps alpha in adapter_config.json", tensors);
  WriteBytes(folder_ / "adapter_config.json", R"({"peft_type": "LORA", "r": 2, "lora_alpha": 16})");
  const LoraFile file = Read(tensors);
  EXPECT_EQ(file.layers()[0].name, "blocks.0.to_q");
  EXPECT_EQ(file.layers()[0].scale, 8);
  WriteBytes(folder_ / "adapter_config.json", R"({"lora_alpha": [16]})");
  ExpectError(ErrorCode::kInvalidFile, "adapter_config.json: field 'lora_alpha'",
              [&] { Read(tensors); });
}

TEST_F(LoraFileTest, TwoAlphasAreRefused) {
  Tensors tensors = Layer("transformer.x.a");
  tensors["transformer.x.a.alpha"] = Number(3);
  const auto read = [&](const std::string& json) {
    return Read(tensors, {{"lora_adapter_metadata", json}}).layers()[0].scale;
  };
  EXPECT_EQ(read(R"({"transformer.lora_alpha": 3})"), 1.5);
  ExpectError(ErrorCode::kInvalidFile,
              "'transformer.x.a.alpha': another alpha than in the metadata",
              [&] { read(R"({"transformer.lora_alpha": 4})"); });
  ExpectError(ErrorCode::kInvalidFile, "field 'transformer.alpha_pattern.x.a': another alpha", [&] {
    read(R"({"transformer.lora_alpha": 3, "transformer.alpha_pattern": {"a": 3, "x.a": 4}})");
  });
  ExpectError(ErrorCode::kInvalidFile, "regular expressions are not read", [&] {
    read(R"({"transformer.lora_alpha": 3, "transformer.alpha_pattern": {"x\\..*": 3}})");
  });
}

TEST_F(LoraFileTest, MetadataSaysAlpha) {
  Tensors tensors = Layer("transformer.x.a");
  tensors.merge(Layer("transformer.y.b"));
  tensors.merge(Layer("text_encoder.a"));
  const auto scales = [&](const std::string& json) {
    const LoraFile file = Read(tensors, {{"lora_adapter_metadata", json}});
    std::map<std::string, double> found;
    for (const LoraLayer& layer : file.layers()) {
      found[layer.component + " " + layer.name] = layer.scale;
    }
    return found;
  };
  using Scales = std::map<std::string, double>;
  EXPECT_EQ(scales(R"({"transformer.r": 2, "transformer.lora_alpha": 8,
                       "transformer.alpha_pattern": {"b": 6}})"),
            (Scales{{"transformer x.a", 4}, {"transformer y.b", 3}, {"text_encoder a", 1}}));
  EXPECT_EQ(
      scales(R"({"text_encoder.lora_alpha": 8, "text_encoder.use_rslora": true})"),
      (Scales{
          {"transformer x.a", 1}, {"transformer y.b", 1}, {"text_encoder a", 8 / std::sqrt(2.0)}}));
  ExpectRefused(ErrorCode::kInvalidFile, "transformer.lora_alpha", tensors,
                {{"lora_adapter_metadata", R"({"transformer.lora_alpha": "8"})"}});
  ExpectRefused(ErrorCode::kInvalidFile, "lora_adapter_metadata", tensors,
                {{"lora_adapter_metadata", "no JSON"}});
}

TEST_F(LoraFileTest, RefusesOtherAdapters) {
  for (const char* name :
       {"lora_unet_a.hada_w1_a", "lora_unet_a.lokr_w1", "transformer.a.lora_B.bias",
        "transformer.a.lora_magnitude_vector", "lora_unet_a.dora_scale", "diffusion_model.a.diff_b",
        "transformer_blocks.0.attn.to_q.weight"}) {
    Tensors tensors = Layer("transformer.a");
    tensors[name] = random_.Normal({5, 4});
    ExpectRefused(ErrorCode::kUnsupported, std::string(name) + "': not a part of a LoRA", tensors);
  }
}

TEST_F(LoraFileTest, RefusesWhatDoesNotFitTogether) {
  Tensors tensors = Layer("transformer.a");
  tensors.erase("transformer.a.lora_A.weight");
  ExpectRefused(ErrorCode::kInvalidFile, "'transformer.a.lora_B.weight': the other factor",
                tensors);

  tensors = Layer("transformer.a");
  tensors["transformer.b.alpha"] = Number(1);
  ExpectRefused(ErrorCode::kInvalidFile, "'transformer.b.alpha': the layer has no factors",
                tensors);

  tensors = Layer("transformer.a");
  tensors["transformer.a.lora_B.weight"] = random_.Normal({5, 3});
  ExpectRefused(ErrorCode::kInvalidFile, "expected rank 2 as of 'transformer.a.lora_A.weight'",
                tensors);

  tensors = Layer("transformer.a");
  tensors["transformer.a.lora_B.weight"] = random_.Normal({5, 2, 3, 3});
  ExpectRefused(ErrorCode::kUnsupported, "expected a matrix, found shape [5, 2, 3, 3]", tensors);

  tensors = Layer("transformer.a");
  tensors["transformer.a.lora_A.weight"] = Tensor({0, 4}, DType::kF32);
  ExpectRefused(ErrorCode::kUnsupported, "expected a matrix, found shape [0, 4]", tensors);

  tensors = Layer("transformer.a");
  tensors["transformer.a.alpha"] = random_.Normal({2});
  ExpectRefused(ErrorCode::kInvalidFile, "expected one number, found shape [2]", tensors);

  tensors = Layer("transformer.a");
  tensors.merge(Layer("transformer.a", ".lora_down.weight", ".lora_up.weight"));
  ExpectRefused(ErrorCode::kInvalidFile, "the same as", tensors);

  tensors = Layer("transformer.a");
  tensors["transformer.a.lora_B.weight"] = Tensor({5, 2}, DType::kI32);
  ExpectRefused(ErrorCode::kUnsupported, "element type I32", tensors);

  tensors = Layer("transformer.a");
  tensors["transformer.a.lora_A.weight"].data<float>()[3] = std::numeric_limits<float>::infinity();
  ExpectRefused(ErrorCode::kInvalidFile,
                "'transformer.a.lora_A.weight': holds a NaN or an infinity", tensors);

  ExpectRefused(ErrorCode::kInvalidFile, "holds no tensors", {});
}

TEST_F(LoraFileTest, RefusesFilesThatAreNotThere) {
  ExpectError(ErrorCode::kNotFound, "none.safetensors",
              [&] { LoraFile(folder_ / "none.safetensors"); });
}

}  // namespace
}  // namespace tamias
