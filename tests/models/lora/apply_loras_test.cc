#include "models/lora/apply_loras.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>

#include "io/float_values.h"
#include "tests/support/bfloat16.h"
#include "tests/support/compare_tensors.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"
#include "tests/support/weights_folder.h"

namespace tamias {
namespace {

constexpr int64_t kRank = 3;

class ApplyLorasTest : public ::testing::Test {
 protected:
  // "a", [8, 8], a norm and an embedding.
  Weights OneLayer() {
    NamedTensors weights;
    weights.emplace_back("a.weight", random_.Normal({8, 8}));
    weights.emplace_back("norm.weight", random_.Normal({8}));
    weights.emplace_back("token_embedding.weight", random_.Normal({8, 8}));
    return model_.Write(weights, DType::kF32);
  }

  // Factors of a layer [rows, columns] under a stem, as kohya's scripts name them.
  void AddLayer(const std::string& stem, int64_t rows, int64_t columns) {
    tensors_.emplace_back(stem + ".lora_up.weight", random_.Normal({rows, kRank}));
    tensors_.emplace_back(stem + ".lora_down.weight", random_.Normal({kRank, columns}));
  }

  // B A of the layer's rows from `begin` on, added to a weight's from `to` on.
  void AddProduct(const std::string& stem, int64_t begin, int64_t rows, float scale, Tensor& weight,
                  int64_t to = 0) const {
    const Tensor& up = TensorOf(stem + ".lora_up.weight");
    const Tensor& down = TensorOf(stem + ".lora_down.weight");
    const int64_t columns = weight.view().dim(1);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        double sum = 0;
        for (int64_t r = 0; r < kRank; ++r) {
          sum += double{up.data<float>()[(begin + i) * kRank + r]} *
                 double{down.data<float>()[r * columns + j]};
        }
        weight.data<float>()[(to + i) * columns + j] += scale * static_cast<float>(sum);
      }
    }
  }

  const Tensor& TensorOf(const std::string& name) const {
    return std::ranges::find(tensors_, name, &std::pair<std::string, Tensor>::first)->second;
  }

  ScaledLora File(double scale = 1) {
    std::vector<NamedTensor> named;
    for (const auto& [name, tensor] : tensors_) named.push_back({name, tensor.view()});
    const auto path = files_ / fmt::format("{}.safetensors", num_files_++);
    WriteSafetensors(path, named);
    return {std::make_shared<const LoraFile>(path), scale};
  }

  Random random_{7};
  NamedTensors tensors_;
  WeightsFolder model_;
  TemporaryFolder files_;
  int num_files_ = 0;
};

TEST_F(ApplyLorasTest, AddsTheProductsOfAllFiles) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    SCOPED_TRACE(Name(dtype));
    tensors_.clear();
    NamedTensors weights;
    weights.emplace_back("a.weight", random_.Normal({40, 24}));
    weights.emplace_back("a.bias", random_.Normal({40}));
    weights.emplace_back("b.weight", random_.Normal({24, 24}));
    const Weights plain = model_.Write(weights, dtype);
    AddLayer("transformer.a", 40, 24);
    const Weights changed = ApplyLoras(plain, "transformer", {File(0.5), File(-2)});
    Tensor expected = Tensor::CopyOf(weights[0].second.view());
    AddProduct("transformer.a", 0, 40, -1.5f, expected);
    const ConstTensorView found = changed.Get("a.weight", {40, 24});
    ASSERT_EQ(found.dtype(), dtype);
    EXPECT_LT(LargestError(Converted(Context(1), found, DType::kF32), expected.view()),
              dtype == DType::kF32 ? 1e-5f : 0.1f);  // of about 10, rounded to 8 bits twice
    EXPECT_EQ(changed.Get("b.weight").raw(), plain.Get("b.weight").raw());
    EXPECT_EQ(changed.Get("a.bias").raw(), plain.Get("a.bias").raw());
    EXPECT_EQ(changed.ChangedBytes(), static_cast<int64_t>(40 * 24 * SizeOf(dtype)));
    EXPECT_EQ(plain.ChangedBytes(), 0);
  }
}

TEST_F(ApplyLorasTest, SplitsTheLayersOfTheAuthors) {
  const std::string block = "single_transformer_blocks.0.";
  NamedTensors weights;
  for (const char* layer : {"attn.to_q", "attn.to_k", "attn.to_v"}) {
    weights.emplace_back(block + layer + ".weight", random_.Normal({8, 8}));
  }
  weights.emplace_back(block + "proj_mlp.weight", random_.Normal({32, 8}));
  weights.emplace_back("norm_out.linear.weight", random_.Normal({16, 8}));
  const Weights plain = model_.Write(weights, DType::kF32);
  const std::pair<std::string, std::string> names[] = {
      {"diffusion_model.single_blocks.0.linear1", "diffusion_model.final_layer.adaLN_modulation.1"},
      {"lora_unet_single_blocks_0_linear1", "lora_unet_final_layer_adaLN_modulation_1"}};
  for (const auto& [linear, modulation] : names) {
    SCOPED_TRACE(linear);
    tensors_.clear();
    AddLayer(linear, 56, 8);
    AddLayer(modulation, 16, 8);
    const Weights changed = ApplyLoras(plain, "transformer", {File()});
    for (size_t i = 0; i < weights.size(); ++i) {
      const auto& [name, weight] = weights[i];
      SCOPED_TRACE(name);
      Tensor expected = Tensor::CopyOf(weight.view());
      if (i < 4) {
        AddProduct(linear, static_cast<int64_t>(8 * i), i < 3 ? 8 : 32, 1, expected);
      } else {
        AddProduct(modulation, 0, 8, 1, expected, 8);  // shift before scale, in diffusers after it
        AddProduct(modulation, 8, 8, 1, expected, 0);
      }
      EXPECT_LT(LargestError(changed.Get(name), expected.view()), 1e-5f);
    }
  }
}

TEST_F(ApplyLorasTest, FindsTextModelsUnderBothNames) {
  NamedTensors weights;
  weights.emplace_back("encoder.layers.0.fc1.weight", random_.Normal({8, 8}));
  weights.emplace_back("text_model.encoder.layers.1.fc1.weight", random_.Normal({8, 8}));
  const Weights plain = model_.Write(weights, DType::kF32);
  AddLayer("lora_te1_text_model_encoder_layers_0_fc1", 8, 8);
  AddLayer("text_encoder.encoder.layers.1.fc1", 8, 8);
  const Weights changed = ApplyLoras(plain, "text_encoder", {File()});
  for (const auto& [name, weight] : weights) {
    EXPECT_GT(LargestError(changed.Get(name), weight.view()), 0.1f) << name;
  }
}

TEST_F(ApplyLorasTest, RefusesWhatChangesAWeightTwice) {
  NamedTensors weights;
  for (const char* part : {"q", "k", "v"}) {
    weights.emplace_back(fmt::format("transformer_blocks.0.attn.to_{}.weight", part),
                         random_.Normal({8, 8}));
  }
  const Weights plain = model_.Write(weights, DType::kF32);
  AddLayer("transformer.transformer_blocks.0.attn.to_k", 8, 8);
  AddLayer("lora_unet_double_blocks_0_img_attn_qkv", 24, 8);
  const ScaledLora file = File();
  ExpectError(
      ErrorCode::kInvalidFile,
      "'transformer.transformer_blocks.0.attn.to_k.lora_up.weight': changes the same weight "
      "as 'lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight'",
      [&] { ApplyLoras(plain, "transformer", {file}); });
}

TEST_F(ApplyLorasTest, RefusesWhatLeavesTheRangeOfTheWeights) {
  NamedTensors weights;
  weights.emplace_back("a.weight", random_.Normal({8, 8}));
  AddLayer("transformer.a", 8, 8);
  const Weights halves = model_.Write(weights, DType::kF16);
  const Weights changed = ApplyLoras(halves, "transformer", {File(1e6)});
  ExpectError(
      ErrorCode::kInvalidFile,
      "'transformer.a.lora_up.weight': added times 1e+06, the weight leaves the range of f16",
      [&] { changed.Get("a.weight"); });
  ExpectError(ErrorCode::kInvalidFile, "the scale 1e+39 is beyond fp32",
              [&] { ApplyLoras(halves, "transformer", {File(1e39)}); });
}

TEST_F(ApplyLorasTest, LeavesOtherComponentsAlone) {
  const Weights plain = OneLayer();
  AddLayer("text_encoder.a", 8, 8);
  EXPECT_EQ(ApplyLoras(plain, "transformer", {File()}).Get("a.weight").raw(),
            plain.Get("a.weight").raw());
  EXPECT_NE(ApplyLoras(plain, "text_encoder", {File()}).Get("a.weight").raw(),
            plain.Get("a.weight").raw());
}

TEST_F(ApplyLorasTest, CopiesToADeviceAreChanged) {
  const Weights plain = OneLayer();
  AddLayer("transformer.a", 8, 8);
  const Weights changed = ApplyLoras(plain, "transformer", {File()});
  const Context context(BFloat16OnCpu(), 1);
  const Weights copies = changed.CopyToDevice(context);
  const ConstTensorView copy = copies.Get("a.weight");
  const Tensor expected = Converted(context, changed.Get("a.weight"), DType::kBF16);
  ASSERT_EQ(copy.dtype(), DType::kBF16);
  EXPECT_EQ(LargestError(Converted(context, copy, DType::kF32).view(),
                         Converted(context, expected.view(), DType::kF32).view()),
            0);
}

TEST_F(ApplyLorasTest, RefusesLorasOfOtherModels) {
  const Weights plain = OneLayer();
  const auto expect_refused = [&](const std::string& stem, int64_t rows, int64_t columns,
                                  const std::string& text) {
    tensors_.clear();
    AddLayer(stem, rows, columns);
    const ScaledLora file = File();
    ExpectError(ErrorCode::kInvalidFile, text, [&] { ApplyLoras(plain, "transformer", {file}); });
    ExpectError(ErrorCode::kInvalidFile, file.file->path().string() + ": tensor '" + stem,
                [&] { ApplyLoras(plain, "transformer", {file}); });
  };
  expect_refused("transformer.b", 8, 8, "has no linear layer 'b': the LoRA is of another model");
  expect_refused("transformer.norm", 8, 8, "has no linear layer 'norm'");
  expect_refused("lora_unet_double_blocks_0_img_mlp_0", 8, 8,
                 "has no linear layer 'double_blocks_0_img_mlp_0'");
  expect_refused("transformer.token_embedding", 8, 8, "has no linear layer 'token_embedding'");
  expect_refused("transformer.a", 9, 8, "expected factors of a layer [8, 8], found [9, 8]");
  expect_refused("transformer.a", 8, 7, "expected factors of a layer [8, 8], found [8, 7]");
}

}  // namespace
}  // namespace tamias
