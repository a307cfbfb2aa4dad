// Seconds since a stage began; the time left is that of the steps so far times those that are left.
// A callback that answers false cancels the generation.
#include "pipeline/generation_clock.h"

#include "tamias/error.h"

namespace tamias {

void GenerationClock::BeginStage(Stage stage, int image, int num_steps) {
  stage_ = stage;
  image_ = image;
  step_ = 0;
  num_steps_ = num_steps;
  stage_start_ = std::chrono::steady_clock::now();
  Report("");
}

void GenerationClock::EndStep(const std::string& kind) {
  ++step_;
  Report(kind);
}

void GenerationClock::Report(const std::string& kind) {
  if (!callback_) return;
  const double left = step_ > 0 ? StageSeconds() / step_ * (num_steps_ - step_) : 0;
  const Progress progress{.stage = stage_,
                          .image = image_,
                          .num_images = num_images_,
                          .step = step_,
                          .num_steps = num_steps_,
                          .step_kind = kind,
                          .seconds = Seconds(),
                          .seconds_left = left};
  if (!callback_(progress)) throw Error(ErrorCode::kCancelled, "interrupted");
}

}  // namespace tamias
