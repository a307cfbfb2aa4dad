// What a model family supplies: its parts, read from a checkpoint folder, and what a generation
// needs of them: prompt to embeddings, latents to velocity, latents to pixels. Everything else
// (settings, plan, loop, progress, report) is written once, in the rooms beside this one.
//
// There are no functions that plan: with a planning context (base/context.h) the same functions run
// dry, and the workspace tells what they would have taken.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/autoencoders/frame_sink.h"
#include "models/schedulers/scheduler_factory.h"
#include "pipeline/denoiser.h"
#include "pipeline/generation_settings.h"
#include "pipeline/image_condition.h"
#include "pipeline/model_folder.h"
#include "pipeline/model_residency.h"
#include "pipeline/packed_latents.h"
#include "pipeline/prompt_embedding.h"
#include "tamias/context.h"
#include "tamias/pipeline.h"
#include "tamias/sparsity/geometry.h"
#include "tamias/weights.h"

namespace tamias {

class ModelFamily {
 public:
  virtual ~ModelFamily() = default;
  ModelFamily(const ModelFamily&) = delete;
  ModelFamily& operator=(const ModelFamily&) = delete;

  const ModelFolder& folder() const { return folder_; }
  const ModelInfo& info() const { return info_; }
  const FamilyDefaults& defaults() const { return defaults_; }
  const SchedulerFactory& scheduler() const { return *scheduler_; }
  const std::vector<ModelComponent>& components() const { return components_; }
  // Resident before anything of the model was loaded.
  size_t program_bytes() const { return program_bytes_; }

  // `settings` are complete and checked, except for what only the family knows: it throws
  // kInvalidArgument where that is wrong.
  virtual LatentShape LatentsOf(const GenerationSettings& settings) const = 0;
  // What the transformer looks like to the sparsity layer with a prompt of `text_tokens`.
  virtual SparseGeometry Geometry(int64_t text_tokens, const TokenGrid& grid) const = 0;
  // On the context's device; the embedding lies on the host. When planning the prompt is the
  // longest there can be.
  virtual PromptEmbedding EncodePrompt(Context& context, const std::string& prompt,
                                       const GenerationSettings& settings) const = 0;
  // Whether the end of the prompt does not fit.
  virtual bool IsCut(const std::string& prompt, const GenerationSettings& settings) const = 0;
  virtual bool HasGuidanceEmbedding() const = 0;
  // Which of its transformers predicts at a timestep of the scheduler: 0, or 1 where a family has a
  // second one for low noise (Wan 2.2's experts). All have the same geometry.
  virtual int ExpertAt(float /*timestep*/) const { return 0; }
  // tokens: those that it is called with. What it computes once lies in the context's workspace,
  // from where the caller's scope frees it.
  virtual std::unique_ptr<Denoiser> MakeDenoiser(Context& context,
                                                 const GenerationSettings& settings,
                                                 const LatentShape& latents,
                                                 const DenoiserTokens& tokens,
                                                 const ImageCondition& image) const = 0;

  // Of families that need an image (FamilyDefaults): the condition of a film of these latents, in
  // memory of the host. after_piece is called NumImagePieces times. When planning the image is not
  // looked at.
  virtual ImageCondition EncodeImage(Context& /*context*/, const Image& /*image*/,
                                     const LatentShape& /*latents*/,
                                     const std::function<void()>& /*after_piece*/) const {
    return {};
  }
  virtual int NumImagePieces(const LatentShape& /*latents*/) const { return 0; }

  // latents [1, N, P], packed in row order, -> frames of height x width pixels in their order (a
  // picture is one frame). after_piece is called NumDecodePieces times.
  virtual void Decode(Context& context, const LatentShape& shape, ConstTensorView latents,
                      const FrameSink& sink, const std::function<void()>& after_piece) const = 0;
  virtual int NumDecodePieces(const LatentShape& latents) const = 0;

  // Where the options' first device and types put the denoiser, whether there is such a device or
  // not; the activations follow the type of the first transformer. Throws as ParseDevices,
  // ParseActivationType, ParseWeightType and PlacementOn.
  Placement PlacementFor(const GenerateOptions& options) const;

 protected:
  explicit ModelFamily(const ModelFolder& folder);

  // Called by a family's constructor: for each component that has weights, then once at the end.
  // model must stay where it is; stages: those that run it; expert: of transformers.
  void AddComponent(const std::string& name, const PlacedModel& model,
                    std::initializer_list<ModelStage> stages, int expert = 0);
  void SetDefaults(const FamilyDefaults& family, const std::string& profile);
  // Reads the folder's scheduler; called once by a family's constructor.
  void SetScheduler(SchedulerConventions conventions);
  // Throws kInvalidFile unless a number of a transformer's config is what another component says.
  void CheckTransformerField(const char* field, int64_t found, const char* where, int64_t expected,
                             const char* transformer = "transformer") const;

 private:
  ModelFolder folder_;
  size_t program_bytes_;
  FamilyDefaults defaults_;
  std::optional<SchedulerFactory> scheduler_;
  std::vector<ModelComponent> components_;
  ModelInfo info_;
};

// Loads the family that the folder's model_index.json names. Throws kUnsupported, listing those
// there are, for any other.
std::unique_ptr<ModelFamily> LoadModelFamily(const ModelFolder& folder);

std::unique_ptr<ModelFamily> LoadFluxPipeline(const ModelFolder& folder);
std::unique_ptr<ModelFamily> LoadHunyuanVideoPipeline(const ModelFolder& folder);
std::unique_ptr<ModelFamily> LoadWanPipeline(const ModelFolder& folder);
std::unique_ptr<ModelFamily> LoadMochiPipeline(const ModelFolder& folder);

}  // namespace tamias
