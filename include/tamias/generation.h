// A generation run step by step by its caller: what Pipeline::Generate does in one call, for those
// who look at the latents between steps, stop and go on, or run several generations in turn.
//
//   tamias::Generation generation = pipeline.Start(options);
//   while (!generation.IsDone()) {
//     while (generation.Step()) Show(generation.latents());
//     generation.Decode();
//   }
//   tamias::WritePng("circle.png", generation.result().images[0]);
//
// Errors are tamias::Error; after one that a stage ended in only result() may be asked for. What a
// generation held and was promised of memory is let go then, and when its last picture is decoded;
// the result stays. A Generation belongs to one thread at a time; several of one pipeline may run
// in as many threads. It keeps the model alive, so it may outlive its Pipeline.
#pragma once

#include <memory>

#include "tamias/pipeline.h"

namespace tamias {

class Generation {
 public:
  Generation(Generation&&) noexcept;
  Generation& operator=(Generation&&) noexcept;
  ~Generation();

  // Turns prompts (and the picture that a film begins with) into embeddings. The first Step does it
  // where the caller did not.
  void Encode();
  // Runs the next denoising step of the picture or film under way. false, with nothing done: it has
  // no more steps, and Decode is next.
  bool Step();
  // Ends the picture or film under way: its latents as they are now, final or not, go to
  // result().latents and, where options.decode says so, decoded to result().images or videos. The
  // next Step begins the next one. Throws kInvalidArgument before the first Step of a picture.
  void Decode();
  // All options.num_images have been decoded.
  bool IsDone() const;

  int image() const;      // picture or film under way, 0 to num_images - 1
  int step() const;       // that Step will run, 0 to num_steps()
  int num_steps() const;  // of each picture (Pipeline::NumSteps)

  // The latents of the picture under way, between steps; from its first Step to its Decode. Throws
  // kInvalidArgument at other times.
  Latents latents() const;
  // Others in their place. Throws kInvalidArgument for another shape, and for values that are not
  // finite. What sparsity keeps from earlier steps stays: changes should be small, or come before a
  // full step.
  void SetLatents(const Latents& latents);

  // What is there so far.
  const GenerateResult& result() const;
  GenerateResult TakeResult() &&;

 private:
  friend class Pipeline;
  class Implementation;
  explicit Generation(std::unique_ptr<Implementation> implementation);

  std::unique_ptr<Implementation> implementation_;
};

}  // namespace tamias
