// What a Generation holds: the plan, what its stages hand to each other, and the picture under way.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "pipeline/generation_clock.h"
#include "pipeline/generation_plan.h"
#include "pipeline/generation_report.h"
#include "pipeline/image_condition.h"
#include "pipeline/picture_denoising.h"
#include "pipeline/pipeline_parts.h"
#include "pipeline/prompt_embedding.h"
#include "tamias/generation.h"

namespace tamias {

class Generation::Implementation {
 public:
  // Plans, and takes a place beside the generations under way.
  static std::unique_ptr<Implementation> Begin(std::shared_ptr<Pipeline::Parts> parts,
                                               const GenerateOptions& options,
                                               const ProgressCallback& progress);
  // With a plan that is made: PlanDecoding where a generation is nothing but its decoding.
  Implementation(std::shared_ptr<Pipeline::Parts> parts, const GenerateOptions& options,
                 const ProgressCallback& progress, GenerationPlan plan, int num_images);

  // After an error of these only result() and IsDone() may be asked for: what the generation held
  // is let go, as at its end.
  void Encode();
  bool Step();
  void Decode();
  // The same of latents that are there already.
  void Decode(const Latents& latents);
  bool IsDone() const { return image_ == num_images_; }
  int image() const { return image_; }
  int step() const { return picture_ ? picture_->step() : 0; }
  int num_steps() const { return num_steps_; }
  Latents latents();
  void SetLatents(const Latents& latents);
  GenerateResult& result() { return result_; }

 private:
  // Runs a part of the generation; lets go what it held where it fails or was the last.
  void Run(const std::function<void()>& part);
  void EncodeOnce();
  void EncodePrompts();
  void EncodeImage();
  void BeginPicture();
  // Holds the transformer that makes the picture's next step, and no other.
  void UseTransformer();
  // Decodes the last of result().latents, given as [1, N, P], and hands the result out.
  void FinishPicture(ConstTensorView latents);
  // Throws where a part has failed.
  void CheckNotFailed() const;
  // Throws unless a picture is under way, naming what was asked of it.
  void CheckUnderWay(const char* what) const;

  std::shared_ptr<Pipeline::Parts> parts_;
  const ModelFamily& family_;
  GenerateOptions options_;
  GenerationPlan plan_;
  RunningGenerations::Entry entry_;
  int num_images_;
  GenerationClock clock_;
  GenerationReport report_;
  int num_steps_;
  std::vector<std::shared_ptr<DeviceResources>> resources_;  // of the plan's devices
  bool is_encoded_ = false;
  std::vector<PromptEmbedding> prompts_;
  ImageCondition condition_;
  int image_ = 0;
  bool has_failed_ = false;
  std::optional<ModelDevices::Lease> transformer_;  // while a picture is under way
  std::optional<PictureDenoising> picture_;
  GenerateResult result_;
};

}  // namespace tamias
