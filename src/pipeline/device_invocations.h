// What a step runs on one device: the invocations of the transformer that are there, or its share
// of one, and what they keep there (sparsity state, rotary tables, embeddings, latents,
// predictions). Symbols: N image tokens, P numbers of a token.
#pragma once

#include <memory>
#include <vector>

#include "pipeline/denoiser.h"
#include "pipeline/generation_plan.h"
#include "pipeline/image_condition.h"
#include "pipeline/model_family.h"
#include "pipeline/prompt_embedding.h"
#include "tamias/context.h"
#include "tamias/device_memory.h"
#include "tamias/sparsity/geometry.h"
#include "tamias/sparsity/sparse_session.h"

namespace tamias {

class DeviceInvocations {
 public:
  // An invocation, in memory of the host.
  struct Invocation {
    const PromptEmbedding* prompt;
    TensorView prediction;  // [1, N, P] f32
  };
  // What the invocations compute, and with whom.
  struct Work {
    std::vector<SparseGeometry> geometries;  // of the invocations, which share rank and bounds
    // With the devices that have the other ranks; null where there are none, and when planning.
    std::shared_ptr<RankExchange> exchange;
    std::vector<Invocation> invocations;

    // The next invocation, of which the device has this rank of the plan's.
    void Add(const ModelFamily& family, const GenerationPlan& plan, int rank, int64_t text_tokens,
             const Invocation& invocation);
  };
  // latents: [1, N, P] f32 of the host, in token order, which a step reads. Keeps what it holds in
  // the context's workspace, in the caller's scope; all that is given must outlive it.
  DeviceInvocations(Context& context, const ModelFamily& family, const GenerationPlan& plan,
                    const ImageCondition& condition, TensorView latents, const Work& work);

  SparseSession& session() { return session_; }
  const SparseSession& session() const { return session_; }
  // The velocity of the latents at the timestep, of each invocation, in a step that the session has
  // begun; of a rank's tokens alone. Waits for the device.
  void Predict(float timestep);

 private:
  Context& context_;
  SparseSession session_;
  std::unique_ptr<Denoiser> denoiser_;
  DeviceMirror latents_;
  std::vector<PromptViews> prompts_;
  std::vector<DeviceMirror> predictions_;
};

}  // namespace tamias
