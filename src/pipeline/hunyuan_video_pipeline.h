// HunyuanVideo text-to-video (diffusers' HunyuanVideoPipeline, with true classifier-free guidance).
#pragma once

#include "models/autoencoders/autoencoder_kl_hunyuan_video.h"
#include "models/transformers/hunyuan_video_transformer.h"
#include "pipeline/hunyuan_video_text.h"
#include "pipeline/two_part_family.h"

namespace tamias {

class HunyuanVideoPipeline final
    : public TwoPartFamily<HunyuanVideoTransformer, AutoencoderKlHunyuanVideo> {
 public:
  explicit HunyuanVideoPipeline(const ModelFolder& folder);

 private:
  SparseGeometry Geometry(int64_t text_tokens, const TokenGrid& grid) const override;
  PromptEmbedding EncodePrompt(Context& context, const std::string& prompt,
                               const GenerationSettings& settings) const override;
  bool IsCut(const std::string& prompt, const GenerationSettings& settings) const override;
  bool HasGuidanceEmbedding() const override { return transformer_config().guidance_embeds; }
  std::unique_ptr<Denoiser> MakeDenoiser(Context& context, const GenerationSettings& settings,
                                         const LatentShape& latents, const DenoiserTokens& tokens,
                                         const ImageCondition& image) const override;

  HunyuanVideoTextEncoders text_;
};

}  // namespace tamias
