// A model family that is nothing but its denoiser: 4 image tokens, two layers.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "pipeline/model_family.h"
#include "tests/support/linked_model.h"

namespace tamias {

class CallingFamily final : public ModelFamily {
 public:
  // What a denoiser computes: Denoiser::Predict.
  using Call = std::function<void(Context& context, float timestep, const PromptViews& prompt,
                                  ConstTensorView latents, SparseInvocation& invocation,
                                  TensorView prediction)>;

  explicit CallingFamily(Call call)
      : ModelFamily(ModelFolder(kDemoModel)), call_(std::move(call)) {}

  LatentShape LatentsOf(const GenerationSettings&) const override {
    return {.channels = 1, .frames = 1, .height = 4, .width = 4, .patch = 2};
  }
  SparseGeometry Geometry(int64_t text_tokens, const TokenGrid& grid) const override {
    SparseGeometry geometry;
    geometry.text_tokens = text_tokens;
    geometry.grid = grid;
    geometry.num_layers = 2;
    geometry.num_heads = 2;
    geometry.head_dim = 64;
    return geometry;
  }
  PromptEmbedding EncodePrompt(Context&, const std::string&,
                               const GenerationSettings&) const override {
    return {};
  }
  bool IsCut(const std::string&, const GenerationSettings&) const override { return false; }
  bool HasGuidanceEmbedding() const override { return false; }
  std::unique_ptr<Denoiser> MakeDenoiser(Context&, const GenerationSettings&, const LatentShape&,
                                         const DenoiserTokens&,
                                         const ImageCondition&) const override {
    return std::make_unique<Calling>(call_);
  }
  void Decode(Context&, const LatentShape&, ConstTensorView, const FrameSink&,
              const std::function<void()>&) const override {}
  int NumDecodePieces(const LatentShape&) const override { return 0; }

 private:
  class Calling final : public Denoiser {
   public:
    explicit Calling(const Call& call) : call_(call) {}
    void Predict(Context& context, float timestep, const PromptViews& prompt,
                 ConstTensorView latents, SparseInvocation& invocation,
                 TensorView prediction) const override {
      call_(context, timestep, prompt, latents, invocation, prediction);
    }

   private:
    const Call& call_;
  };

  const Call call_;
};

}  // namespace tamias
