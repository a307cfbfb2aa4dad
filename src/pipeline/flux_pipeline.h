// FLUX.1 text-to-image (diffusers' FluxPipeline, with true classifier-free guidance).
#pragma once

#include <memory>

#include "models/autoencoders/autoencoder_kl.h"
#include "models/transformers/flux_transformer.h"
#include "pipeline/denoising_pipeline.h"
#include "pipeline/flux_text.h"
#include "pipeline/model_on_devices.h"

namespace tamias {

class FluxPipeline final : public DenoisingPipeline {
 public:
  explicit FluxPipeline(const ModelFolder& folder);

 private:
  LatentShape LatentsOf(const GenerationSettings& settings) const override;
  SparseGeometry Geometry(int64_t text_tokens, const TokenGrid& grid) const override;
  PromptEmbedding EncodePrompt(Context& context, const std::string& prompt,
                               const GenerationSettings& settings) const override;
  bool IsCut(const std::string& prompt, const GenerationSettings& settings) const override;
  bool HasGuidanceEmbedding() const override { return transformer_.config().guidance_embeds; }
  std::unique_ptr<Denoiser> MakeDenoiser(Context& context, const GenerationSettings& settings,
                                         const LatentShape& latents, const TokenOrder& order,
                                         const ImageCondition& image) const override;
  StageBytes PlanDenoiser(const GenerationSettings& settings, const LatentShape& latents,
                          const Placement& placement) const override;
  void PrepareForSparsity(Context& context) const override;
  size_t SparsityWeightBytes(const Placement& placement) const override;
  const Weights* GpuWeights() const override { return &transformer_.weights(); }
  size_t PlanTextEncoders(const GenerationSettings& settings) const override;
  void LoadOnGpu(Context& context, Context& coder) const override;
  void Decode(Context& context, const LatentShape& shape, ConstTensorView latents,
              const FrameSink& sink, const std::function<void()>& after_piece) const override;
  int NumDecodePieces(const LatentShape& latents) const override;
  StageBytes PlanDecoder(const LatentShape& latents, const Placement& placement) const override;

  FluxTextEncoders text_;
  ModelOnDevices<FluxTransformer> transformer_;  // prepared once for sparse MLPs, on first need
  ModelOnDevices<AutoencoderKl> vae_;
};

}  // namespace tamias
