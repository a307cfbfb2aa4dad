// Wan 2.1 and Wan 2.2 A14B, text-to-video and image-to-video (diffusers' WanPipeline and
// WanImageToVideoPipeline), with classifier-free guidance. Of Wan 2.2 one transformer, the expert
// for high noise, makes the first steps and another the rest. Prompts are taken as typed: diffusers
// also resolves HTML entities
// ("&amp;") and, where ftfy is installed, repairs broken Unicode.
#pragma once

#include <functional>
#include <memory>

#include "models/autoencoders/autoencoder_kl_wan.h"
#include "models/transformers/wan_transformer.h"
#include "pipeline/t5_prompt_encoder.h"
#include "pipeline/two_part_family.h"
#include "pipeline/wan_image_encoder.h"

namespace tamias {

class WanPipeline final : public TwoPartFamily<WanTransformer, AutoencoderKlWan> {
 public:
  explicit WanPipeline(const ModelFolder& folder);

 private:
  SparseGeometry Geometry(int64_t text_tokens, const TokenGrid& grid) const override;
  PromptEmbedding EncodePrompt(Context& context, const std::string& prompt,
                               const GenerationSettings& settings) const override;
  bool IsCut(const std::string& prompt, const GenerationSettings& settings) const override;
  bool HasGuidanceEmbedding() const override { return false; }
  int ExpertAt(float timestep) const override { return timestep < boundary_ ? 1 : 0; }
  std::unique_ptr<Denoiser> MakeDenoiser(Context& context, const GenerationSettings& settings,
                                         const LatentShape& latents, const DenoiserTokens& tokens,
                                         const ImageCondition& image) const override;
  ImageCondition EncodeImage(Context& context, const Image& image, const LatentShape& latents,
                             const std::function<void()>& after_piece) const override;
  int NumImagePieces(const LatentShape& latents) const override;
  void CheckTransformer() const;
  void CheckSecondTransformer() const;

  T5PromptEncoder text_;
  std::unique_ptr<WanImageEncoder> image_;  // null: text-to-video
  // The timestep below which the second transformer predicts; 0: there is none.
  float boundary_ = 0;
};

}  // namespace tamias
