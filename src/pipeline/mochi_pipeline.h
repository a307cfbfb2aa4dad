// Mochi 1 text-to-video (diffusers' MochiPipeline): T5, the asymmetric transformer under
// classifier-free guidance, linear-quadratic noise levels, the causal 3D VAE.
#pragma once

#include "models/autoencoders/autoencoder_kl_mochi.h"
#include "models/transformers/mochi_transformer.h"
#include "pipeline/t5_prompt_encoder.h"
#include "pipeline/two_part_family.h"

namespace tamias {

class MochiPipeline final : public TwoPartFamily<MochiTransformer, AutoencoderKlMochi> {
 public:
  explicit MochiPipeline(const ModelFolder& folder);

 private:
  SparseGeometry Geometry(int64_t text_tokens, const TokenGrid& grid) const override;
  PromptEmbedding EncodePrompt(Context& context, const std::string& prompt,
                               const GenerationSettings& settings) const override;
  bool IsCut(const std::string& prompt, const GenerationSettings& settings) const override;
  bool HasGuidanceEmbedding() const override { return false; }
  std::unique_ptr<Denoiser> MakeDenoiser(Context& context, const GenerationSettings& settings,
                                         const LatentShape& latents, const DenoiserTokens& tokens,
                                         const ImageCondition& image) const override;

  T5PromptEncoder text_;
  bool force_zeros_for_empty_prompt_;
};

}  // namespace tamias
