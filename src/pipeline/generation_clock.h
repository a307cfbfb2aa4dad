// The time of a generation by stage, its progress callback and its cancellation.
#pragma once

#include <chrono>
#include <string>
#include <utility>

#include "tamias/pipeline.h"

namespace tamias {

class GenerationClock {
 public:
  GenerationClock(ProgressCallback callback, int num_images)
      : callback_(std::move(callback)), num_images_(num_images) {}

  double Seconds() const { return SecondsSince(start_); }  // since construction

  // Announces a stage of `num_steps` steps. Throws kCancelled when the callback says so.
  void BeginStage(Stage stage, int image, int num_steps);
  // One step of the stage is finished.
  void EndStep(const std::string& kind = "");
  // The seconds of the stage so far.
  double StageSeconds() const { return SecondsSince(stage_start_); }

 private:
  using TimePoint = std::chrono::steady_clock::time_point;
  static double SecondsSince(TimePoint time) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - time).count();
  }
  void Report(const std::string& kind);

  ProgressCallback callback_;
  int num_images_;
  TimePoint start_ = std::chrono::steady_clock::now();
  TimePoint stage_start_ = start_;
  Stage stage_ = Stage::kEncodePrompt;
  int image_ = 0;
  int step_ = 0;
  int num_steps_ = 0;
};

}  // namespace tamias
