// What every family's generation has in common: prompt -> embeddings; seed -> packed noise in token
// order -> denoising steps, with classifier-free guidance as two model calls that each keep their
// own sparsity state -> row order -> VAE -> pictures or films, and around it settings, memory plan,
// progress, report and warnings. A family supplies the parts below "What a family supplies".
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "io/checkpoint.h"
#include "models/autoencoders/frame_sink.h"
#include "models/schedulers/scheduler_factory.h"
#include "pipeline/generation_clock.h"
#include "pipeline/generation_report.h"
#include "pipeline/generation_settings.h"
#include "pipeline/image_condition.h"
#include "pipeline/packed_latents.h"
#include "pipeline/pipeline_family.h"
#include "pipeline/prompt_embedding.h"
#include "sparsity/sparse_session.h"

namespace tamias {

// Memory of one stage of a generation.
struct StageBytes {
  size_t held = 0;       // tensors that live through the stage
  size_t workspace = 0;  // the most the stage takes from its workspace at one time
};

// The transformer within one generation: holds what is computed once (rotary tables).
class Denoiser {
 public:
  virtual ~Denoiser() = default;
  // prediction [1, N, P]: the velocity of latents [1, N, P], packed and in token order, at the
  // scheduler's timestep.
  virtual void Predict(Context& context, float timestep, const PromptEmbedding& prompt,
                       ConstTensorView latents, SparseInvocation& invocation,
                       TensorView prediction) const = 0;
};

class DenoisingPipeline : public PipelineFamily {
 public:
  GenerateResult Generate(const GenerateOptions& options,
                          const ProgressCallback& progress) const final;
  GenerateResult DecodeLatents(const SavedLatents& latents, const GenerateOptions& options,
                               const ProgressCallback& progress) const final;
  MemoryPlan PlanMemory(const GenerateOptions& options) const final;
  int64_t NumImageTokens(const GenerateOptions& options) const final;
  int64_t NumTextTokens(const GenerateOptions& options) const final;
  int NumSteps(const GenerateOptions& options) const final;
  std::string SparsityYaml(const GenerateOptions& options) const final;
  std::vector<std::string> Warnings(const GenerateOptions& options) const final;
  std::map<std::string, std::string> PngText(const GenerateOptions& options, int image) const final;
  std::map<std::string, std::string> LatentsText(const GenerateOptions& options,
                                                 int image) const final;
  const ModelInfo& info() const final { return info_; }
  int size_multiple() const final { return family_.size_multiple; }

 protected:
  explicit DenoisingPipeline(const ModelFolder& folder);

  // Called by a family's constructor: for each component that has weights, then once at the end.
  void AddComponent(const std::string& name, const Weights& weights);
  void SetDefaults(const FamilyDefaults& family, const std::string& profile);
  // Reads the folder's scheduler; called once by a family's constructor.
  void SetScheduler(SchedulerConventions conventions);
  // Throws kInvalidFile unless a number of the transformer's config is what another component says.
  void CheckTransformerField(const char* field, int64_t found, const char* where,
                             int64_t expected) const;

  // What a family supplies. `settings` are complete and checked, except for what only the family
  // knows: it throws kInvalidArgument where that is wrong.
  virtual LatentShape LatentsOf(const GenerationSettings& settings) const = 0;
  // What the transformer looks like to the sparsity layer with a prompt of `text_tokens`.
  virtual SparseGeometry Geometry(int64_t text_tokens, const TokenGrid& grid) const = 0;
  virtual PromptEmbedding EncodePrompt(Context& context, const std::string& prompt,
                                       const GenerationSettings& settings) const = 0;
  // Whether the end of the prompt does not fit.
  virtual bool IsCut(const std::string& prompt, const GenerationSettings& settings) const = 0;
  virtual bool HasGuidanceEmbedding() const = 0;
  virtual std::unique_ptr<Denoiser> MakeDenoiser(Context& context,
                                                 const GenerationSettings& settings,
                                                 const LatentShape& latents,
                                                 const TokenOrder& order,
                                                 const ImageCondition& image) const = 0;
  // Denoiser and prompt embeddings; the workspace without the operations' own scratch.
  virtual StageBytes PlanDenoiser(const GenerationSettings& settings, const LatentShape& latents,
                                  const Placement& placement) const = 0;
  // Of families that need an image (FamilyDefaults): the condition of a film of these latents,
  // which outlives the denoiser. after_piece is called NumImagePieces times.
  virtual ImageCondition EncodeImage(Context& /*context*/, const Image& /*image*/,
                                     const LatentShape& /*latents*/,
                                     const std::function<void()>& /*after_piece*/) const {
    return {};
  }
  virtual int NumImagePieces(const LatentShape& /*latents*/) const { return 0; }
  // held: the condition, to the end of the generation.
  virtual StageBytes PlanImageEncoder(const LatentShape& /*latents*/) const { return {}; }
  // The weights whose type a GPU's activations have; null: the family runs on the CPU only.
  virtual const Weights* GpuWeights() const { return nullptr; }
  // Copies the weights of all components to a GPU: the denoiser's in the type of the context's
  // activations, those of text encoders and decoder in that of `coder`. Called once for each GPU,
  // before anything else runs there.
  virtual void LoadOnGpu(Context& /*context*/, Context& /*coder*/) const {}
  // What the text encoders take of a GPU at most beside their weights, in bytes.
  virtual size_t PlanTextEncoders(const GenerationSettings& /*settings*/) const { return 0; }
  // Called once for each device, before the first generation with sparse MLPs there.
  virtual void PrepareForSparsity(Context& context) const = 0;
  virtual size_t SparsityWeightBytes(const Placement& placement) const = 0;
  // latents [1, N, P], packed in row order, -> frames of height x width pixels in their order (a
  // picture is one frame). after_piece is called NumDecodePieces times.
  virtual void Decode(Context& context, const LatentShape& shape, ConstTensorView latents,
                      const FrameSink& sink, const std::function<void()>& after_piece) const = 0;
  virtual int NumDecodePieces(const LatentShape& latents) const = 0;
  // The workspace is that of the placement's device.
  virtual StageBytes PlanDecoder(const LatentShape& latents, const Placement& placement) const = 0;

  const ModelFolder& folder() const { return folder_; }

 private:
  struct Component {
    std::string name;
    Weights weights;
  };
  // Everything about one call of Generate that its pictures share.
  struct Plan {
    GenerationSettings settings;
    int num_images = 1;
    SparsityConfig sparsity;
    Placement placement;  // of the denoiser
    // Of text encoders and decoder: the same device, bf16 on a GPU, as states of T5 and of
    // autoencoders leave the range of f16.
    Placement coder;
    LatentShape latents;
    std::vector<SparseGeometry> geometries;  // of the invocations, with the longest prompts
    StatePlan state;
    StatePlace state_place = StatePlace::kMemory;
    StageBytes image_encoder;
    size_t denoiser_workspace = 0;
    size_t decoder_workspace = 0;
    MemoryPlan memory;
    size_t new_bytes = 0;  // of memory.peak_bytes: what is not there yet when the plan is made
  };

  GenerationSettings Settings(const GenerateOptions& options) const;
  SparsityConfig Sparsity(const GenerateOptions& options) const;
  Placement PlacementFor(const GenerateOptions& options) const;
  Plan MakePlan(const GenerateOptions& options) const;
  // Of a generation that is nothing but its decoding.
  Plan MakeDecodePlan(const GenerateOptions& options) const;
  // Settings, device and latents of a plan.
  Plan BeginPlan(const GenerateOptions& options) const;
  MemoryPlan MakeMemoryPlan(const Plan& plan, const StageBytes& denoiser,
                            const StageBytes& decoder) const;
  // Adds what lies on the GPU to the plan.
  void PlanDeviceMemory(const Plan& plan, const StageBytes& denoiser, const StageBytes& decoder,
                        MemoryPlan& memory) const;
  // Throws kOutOfMemory when the plan does not fit what this process may use, or its threads cannot
  // be had.
  void CheckMemory(const Plan& plan, const GenerateOptions& options) const;
  // Makes ready on the context's device what every generation there shares.
  void Prepare(const Plan& plan, int threads) const;

  // The prompt, and with true guidance the negative prompt: one for each invocation. Also announces
  // the pieces of the picture, which is encoded next.
  std::vector<PromptEmbedding> EncodePrompts(Context& context, const GenerateOptions& options,
                                             const Plan& plan, GenerationClock& clock) const;
  // Empty without a picture.
  ImageCondition EncodePicture(const GenerateOptions& options, const Plan& plan,
                               GenerationClock& clock) const;
  // Returns the final latents [1, N, P] in row order. The denoiser runs with `context`, where the
  // session's state lies; noise, scheduler and guidance are the host's.
  Tensor Denoise(Context& context, const Plan& plan, const std::vector<PromptEmbedding>& prompts,
                 const ImageCondition& condition, const GenerateOptions& options, int image,
                 SparseSession& session, GenerationClock& clock) const;
  // Decodes the last of result.latents into the result and hands it out.
  void DecodeLast(const Plan& plan, const GenerateOptions& options, ConstTensorView latents,
                  GenerationReport& report, GenerationClock& clock, GenerateResult& result) const;
  std::vector<Image> DecodeFrames(const Plan& plan, ConstTensorView latents, int threads, int image,
                                  GenerationClock& clock) const;
  void CheckFinite(ConstTensorView values, const char* what, const Context& context) const;

  ModelFolder folder_;
  size_t program_bytes_;  // resident before anything was loaded
  FamilyDefaults family_;
  std::optional<SchedulerFactory> scheduler_;
  std::vector<Component> components_;
  ModelInfo info_;
  mutable std::mutex prepare_mutex_;
  mutable std::vector<Device> loaded_;                 // devices that have the weights
  mutable std::vector<Device> prepared_for_sparsity_;  // devices that are prepared for sparse MLPs
};

}  // namespace tamias
