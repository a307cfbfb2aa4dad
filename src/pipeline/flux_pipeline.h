// FLUX.1 text-to-image (diffusers' FluxPipeline, with true classifier-free guidance).
#pragma once

#include <memory>

#include "models/autoencoders/autoencoder_kl.h"
#include "models/transformers/flux_transformer.h"
#include "pipeline/flux_text.h"
#include "pipeline/two_part_family.h"

namespace tamias {

class FluxPipeline final : public TwoPartFamily<FluxTransformer, AutoencoderKl> {
 public:
  explicit FluxPipeline(const ModelFolder& folder);

 private:
  SparseGeometry Geometry(int64_t text_tokens, const TokenGrid& grid) const override;
  PromptEmbedding EncodePrompt(Context& context, const std::string& prompt,
                               const GenerationSettings& settings) const override;
  bool IsCut(const std::string& prompt, const GenerationSettings& settings) const override;
  bool HasGuidanceEmbedding() const override { return transformer_config().guidance_embeds; }
  std::unique_ptr<Denoiser> MakeDenoiser(Context& context, const GenerationSettings& settings,
                                         const LatentShape& latents, const DenoiserTokens& tokens,
                                         const ImageCondition& image) const override;

  FluxTextEncoders text_;
};

}  // namespace tamias
