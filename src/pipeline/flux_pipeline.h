// FLUX.1 text-to-image (diffusers' FluxPipeline, with true classifier-free guidance): prompt ->
// embeddings; seed -> packed noise in token order -> denoising steps -> row order -> VAE ->
// picture.
#pragma once

#include <mutex>

#include "models/autoencoder_kl.h"
#include "models/flow_match_euler.h"
#include "models/flux_transformer.h"
#include "pipeline/flux_latents.h"
#include "pipeline/flux_text.h"
#include "pipeline/generation_clock.h"
#include "pipeline/generation_settings.h"
#include "pipeline/pipeline_family.h"
#include "sparsity/sparse_session.h"

namespace tamias {

class FluxPipeline final : public PipelineFamily {
 public:
  explicit FluxPipeline(const ModelFolder& folder);

  GenerateResult Generate(const GenerateOptions& options,
                          const ProgressCallback& progress) const override;
  MemoryPlan PlanMemory(const GenerateOptions& options) const override;
  int64_t NumImageTokens(const GenerateOptions& options) const override;
  int64_t NumTextTokens(const GenerateOptions& options) const override;
  std::string SparsityYaml(const GenerateOptions& options) const override;
  std::vector<std::string> Warnings(const GenerateOptions& options) const override;
  std::map<std::string, std::string> PngText(const GenerateOptions& options,
                                             int image) const override;
  const ModelInfo& info() const override { return info_; }
  int size_multiple() const override { return family_.size_multiple; }

 private:
  // Everything about one call of Generate that its pictures share.
  struct Plan {
    GenerationSettings settings;
    SparsityConfig sparsity;
    FluxLatentShape latents;
    SparseGeometry geometry;
    size_t transformer_workspace = 0;
    size_t decoder_workspace = 0;
    MemoryPlan memory;
  };
  struct Prompts {
    FluxPromptEmbedding positive;
    FluxPromptEmbedding negative;  // empty without true guidance
  };

  Plan MakePlan(const GenerateOptions& options) const;
  FluxLatentShape LatentShape(const GenerationSettings& settings) const;
  MemoryPlan MakeMemoryPlan(const Plan& plan) const;
  void CheckMemory(const Plan& plan) const;

  Prompts EncodePrompts(Context& context, const GenerateOptions& options,
                        const GenerationSettings& settings, GenerationClock& clock) const;
  // Returns the final latents [1, N, C] in row order.
  Tensor Denoise(const Plan& plan, const Prompts& prompts, const GenerateOptions& options,
                 int image, SparseSession& session, GenerationClock& clock) const;
  Image Decode(const Plan& plan, ConstTensorView latents, int threads, int image,
               GenerationClock& clock) const;
  void CheckFinite(ConstTensorView values, const char* what, const Context& context) const;
  void DescribeModel();

  ModelFolder folder_;
  size_t program_bytes_;  // resident before anything was loaded
  FamilyDefaults family_;
  FluxTextEncoders text_;
  Weights transformer_weights_;
  Weights vae_weights_;
  mutable FluxTransformer transformer_;  // mutable: prepared once for sparse MLPs, on first need
  mutable std::once_flag prepared_;
  AutoencoderKl vae_;
  FlowMatchEulerConfig scheduler_;
  ModelInfo info_;
};

}  // namespace tamias
