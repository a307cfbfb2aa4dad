// Configurations within larger ones, and null where a model's variant is chosen.
#include "models/config_fields.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "models/autoencoders/autoencoder_kl.h"
#include "models/autoencoders/autoencoder_kl_hunyuan_video.h"
#include "models/autoencoders/autoencoder_kl_mochi.h"
#include "models/autoencoders/autoencoder_kl_wan.h"
#include "models/text/clip_text_encoder.h"
#include "models/text/llama_text_encoder.h"
#include "models/text/t5_encoder.h"
#include "models/transformers/flux_transformer.h"
#include "models/transformers/hunyuan_video_transformer.h"
#include "models/transformers/mochi_transformer.h"
#include "models/transformers/wan_transformer.h"
#include "models/vision/clip_vision_encoder.h"
#include "tests/support/fixture.h"
#include "tests/support/renamed_weights.h"

namespace tamias {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

JsonObject Parse(const std::string& text) { return JsonObject::Parse(text, "file"); }

template <typename Config>
std::string ErrorOfField(const std::string& field, const std::string& value) {
  return ErrorOf([&] { Config::FromJson(Parse(fmt::format(R"({{"{}": {}}})", field, value))); });
}

TEST(ConfigFields, NullIsAValueOfAFieldThatChooses) {
  EXPECT_EQ(ErrorOfField<HunyuanVideoTransformerConfig>("qk_norm", "null"),
            "file: field 'qk_norm': only \"rms_norm\" is supported, found null");
  EXPECT_THAT(ErrorOfField<HunyuanVideoTransformerConfig>("qk_norm", "\"layer\\nnorm\""),
              HasSubstr("field 'qk_norm': only \"rms_norm\" is supported, found \"layer\\nnorm\""));
  EXPECT_THAT(ErrorOfField<HunyuanVideoTransformerConfig>("qk_norm", "false"),
              HasSubstr("field 'qk_norm': expected a string, found false"));
  EXPECT_THAT(ErrorOfField<WanTransformerConfig>("qk_norm", "null"), HasSubstr("'qk_norm'"));
  EXPECT_THAT(ErrorOfField<MochiTransformerConfig>("qk_norm", "null"), HasSubstr("'qk_norm'"));
  EXPECT_THAT(ErrorOfField<MochiTransformerConfig>("activation_fn", "null"),
              HasSubstr("'activation_fn'"));
}

TEST(ConfigFields, NullIsRefusedWhereItIsNotTheDefault) {
  const auto refused = [](const std::string& error, const char* field) {
    EXPECT_EQ(error, fmt::format("file: field '{}': expected a value, found null", field));
  };
  for (const char* field : {"guidance_embeds", "patch_size", "mlp_ratio", "rope_axes_dim"}) {
    refused(ErrorOfField<HunyuanVideoTransformerConfig>(field, "null"), field);
  }
  refused(ErrorOfField<FluxTransformerConfig>("guidance_embeds", "null"), "guidance_embeds");
  refused(ErrorOfField<WanTransformerConfig>("cross_attn_norm", "null"), "cross_attn_norm");
  refused(ErrorOfField<MochiTransformerConfig>("num_layers", "null"), "num_layers");
  refused(ErrorOfField<AutoencoderKlConfig>("act_fn", "null"), "act_fn");
  refused(ErrorOfField<AutoencoderKlConfig>("mid_block_add_attention", "null"),
          "mid_block_add_attention");
  refused(ErrorOfField<AutoencoderKlHunyuanVideoConfig>("act_fn", "null"), "act_fn");
  refused(ErrorOfField<AutoencoderKlMochiConfig>("act_fn", "null"), "act_fn");
  refused(ErrorOfField<AutoencoderKlWanConfig>("dim_mult", "null"), "dim_mult");
  refused(ErrorOfField<ClipTextConfig>("hidden_act", "null"), "hidden_act");
  refused(ErrorOfField<T5Config>("feed_forward_proj", "null"), "feed_forward_proj");
  refused(ErrorOfField<LlamaTextConfig>("hidden_act", "null"), "hidden_act");
}

TEST(ConfigFields, NullStaysTheDefaultThatItIs) {
  EXPECT_EQ(FluxTransformerConfig::FromJson(Parse(R"({"in_channels": 8, "out_channels": null})"))
                .out_channels,
            8);
  EXPECT_EQ(ErrorOfField<AutoencoderKlConfig>("shift_factor", "null"), "");
  EXPECT_EQ(ErrorOfField<WanTransformerConfig>("image_dim", "null"), "");
  EXPECT_EQ(ErrorOfField<LlamaTextConfig>("num_key_value_heads", "null"), "");
  EXPECT_EQ(ErrorOfField<HunyuanVideoTransformerConfig>("image_condition_type", "null"), "");
}

TEST(ConfigFields, EncodersAreFoundWithinLargerModels) {
  EXPECT_EQ(
      ClipTextConfig::FromJson(
          Parse(R"({"model_type": "clip", "hidden_size": 1, "text_config": {"hidden_size": 96},
                          "vision_config": {"hidden_size": 192}})"))
          .hidden_size,
      96);
  EXPECT_EQ(
      ClipVisionConfig::FromJson(Parse(R"({"model_type": "clip", "text_config": {"hidden_size": 96},
                          "vision_config": {"hidden_size": 192}})"))
          .hidden_size,
      192);
  EXPECT_EQ(LlamaTextConfig::FromJson(Parse(R"({"model_type": "llava", "hidden_size": 8,
                          "vision_config": {"model_type": "clip_vision_model", "hidden_size": 16},
                          "text_config": {"model_type": "llama", "hidden_size": 64,
                                          "num_attention_heads": 4}})"))
                .hidden_size,
            64);
  const T5Config t5 = T5Config::FromJson(
      Parse(R"({"model_type": "x", "text_encoder": {"model_type": "umt5", "d_model": 24}})"));
  EXPECT_EQ(t5.d_model, 24);
  EXPECT_TRUE(t5.bias_per_layer);
  // A model type of another family without such an object is read as it is, as transformers does.
  EXPECT_EQ(T5Config::FromJson(Parse(R"({"model_type": "y", "d_model": 40})")).d_model, 40);
  EXPECT_THAT(ErrorOfField<ClipTextConfig>("text_config", R"({"hidden_size": 0})"),
              StartsWith("file: field 'text_config.hidden_size': expected"));
  EXPECT_THAT(ErrorOfField<ClipTextConfig>("text_config", "3"),
              StartsWith("file: field 'text_config': expected an object"));
}

// A whole CLIPModel: the text encoder's tensors under "text_model." beside those of the rest.
TEST(ConfigFields, AWholeClipModelGivesItsTextEncoder) {
  const Fixture fixture("clip-tiny");
  const RenamedWeights weights(
      fixture.weights, [](const std::string& name, ConstTensorView tensor) {
        return NamedTensor{name.starts_with("text_model.") ? name : "text_model." + name, tensor};
      });
  nlohmann::json config = {{"architectures", {"CLIPModel"}},
                           {"model_type", "clip"},
                           {"projection_dim", 64},
                           {"text_config", fixture.config.raw()},
                           {"vision_config", {{"hidden_size", 7}}}};
  const ClipTextEncoder encoder(ClipTextConfig::FromJson(Parse(config.dump())), *weights);
  const ConstTensorView expected = fixture.cases.Get("0.pooled");
  Tensor pooled(expected.shape(), DType::kF32);
  Context context(2);
  encoder.Encode(context, fixture.cases.Get("0.tokens"), {}, pooled);
  EXPECT_LT(RelativeL2(pooled, expected), 1e-5);
}

TEST(ConfigFields, ALlavaModelGivesItsLlama) {
  const Fixture fixture("llama-tiny");
  const LlamaTextConfig config = LlamaTextConfig::FromJson(fixture.config);
  ASSERT_TRUE(fixture.weights.Has("model.embed_tokens.weight") ||
              fixture.weights.Has("embed_tokens.weight"));
  for (const std::string prefix : {"language_model.model.", "model.language_model."}) {
    const RenamedWeights weights(
        fixture.weights, [&](const std::string& name, ConstTensorView tensor) {
          const size_t begin = name.starts_with("model.") ? std::string("model.").size() : 0;
          return NamedTensor{prefix + name.substr(begin), tensor};
        });
    EXPECT_EQ(ErrorOf([&] { LlamaTextEncoder(config, *weights); }), "") << prefix;
  }
}

}  // namespace
}  // namespace tamias
