// The conditioning of the joint transformers: see the header.
#include "models/transformers/conditioning_embedding.h"

#include "tamias/ops/activation.h"

namespace tamias {

ConditioningEmbedding::ConditioningEmbedding(const Weights& weights, int64_t pooled_dim,
                                             int64_t model_dim, bool embeds_guidance)
    : embeds_guidance_(embeds_guidance),
      timestep_embedder_(
          TimestepEmbedding::Load(weights, "timestep_embedder", kSinusoids, model_dim)) {
  if (embeds_guidance) {
    guidance_embedder_ =
        TimestepEmbedding::Load(weights, "guidance_embedder", kSinusoids, model_dim);
  }
  text_embedder_ = TimestepEmbedding::Load(weights, "text_embedder", pooled_dim, model_dim);
}

void ConditioningEmbedding::operator()(Context& context, const ConditioningInputs& inputs,
                                       TensorView conditioning) const {
  timestep_embedder_(context, inputs.sinusoids, conditioning);
  if (embeds_guidance_) {
    Workspace::Scope scope(context.workspace());
    const TensorView guidance = context.workspace().Allocate(inputs.sinusoids.shape(), DType::kF32);
    SinusoidalEmbedding(context, 1000.0f * inputs.guidance, guidance);
    guidance_embedder_(context, guidance, conditioning, /*accumulate=*/true);
  }
  text_embedder_(context, inputs.pooled, conditioning, /*accumulate=*/true);
  Activate(context, Activation::kSilu, conditioning);
}

}  // namespace tamias
