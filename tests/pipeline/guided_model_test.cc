// The calls of a step on one device and on two, with a model that answers at once or, where two
// devices must be at work together, only when both calls have come.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/check.h"
#include "tests/support/errors.h"
#include "tests/support/guided_step.h"

namespace tamias {
namespace {

// Calls that wait for each other.
class Meeting {
 public:
  explicit Meeting(int size) : size_(size) {}

  // Whether all have come.
  bool Come() {
    std::unique_lock lock(mutex_);
    ++come_;
    all_.notify_all();
    return all_.wait_for(lock, std::chrono::minutes(1), [&] { return come_ >= size_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable all_;
  int size_;
  int come_ = 0;
};

// Velocity: the prompt's number times the timestep, plus the latents. Fails for a prompt of 13.
CallingFamily PromptTimesTimestep(Meeting& meeting) {
  return CallingFamily([&meeting](Context&, float timestep, const PromptViews& prompt,
                                  ConstTensorView latents, SparseInvocation&,
                                  TensorView prediction) {
    const float number = *prompt.sequence.host_data<float>();
    if (!meeting.Come()) Fail(ErrorCode::kInternal, "the other call has not come");
    if (number == 13) Fail(ErrorCode::kDevice, "work on GPU 1: failed");
    const float* from = latents.host_data<float>();
    std::transform(from, from + latents.NumElements(), prediction.host_data<float>(),
                   [&](float x) { return x + number * timestep; });
  });
}

PromptEmbedding PromptOf(float number) {
  PromptEmbedding prompt{Tensor({1, 1, 1}, DType::kF32), {}};
  *prompt.sequence.data<float>() = number;
  return prompt;
}

struct Step {
  std::vector<float> prediction;
  SparsityReport report;
};

// One step at timestep 10, guidance 3, of latents that are 1, on the CPU in place of each device.
Step RunStep(int devices, int to_meet, float positive, float negative) {
  Meeting meeting(to_meet);
  const CallingFamily family = PromptTimesTimestep(meeting);
  GenerationPlan plan;
  plan.settings.true_cfg_scale = 3;
  plan.devices.resize(static_cast<size_t>(devices));
  plan.shares.resize(1);
  std::vector<PromptEmbedding> prompts;
  prompts.push_back(PromptOf(positive));
  prompts.push_back(PromptOf(negative));
  GuidedStep step(family, std::move(plan), std::move(prompts));
  step.Predict();
  EXPECT_EQ(step.End(), StepKind::kFull);
  return {step.prediction(), step.report()};
}

TEST(GuidedModel, GuidesOnOneDeviceAsOnTwo) {
  for (const int devices : {1, 2}) {
    // 1 + 20 + 3 ((1 + 50) - (1 + 20))
    EXPECT_EQ(RunStep(devices, 1, 5, 2).prediction, std::vector<float>(16, 111)) << devices;
  }
}

TEST(GuidedModel, CallsOnTwoDevicesAreUnderWayAtOnce) {
  EXPECT_EQ(RunStep(2, 2, 5, 2).prediction, std::vector<float>(16, 111));
}

TEST(GuidedModel, ReportsTheCallsOfAllDevicesAsThoseOfOne) {
  for (const int devices : {1, 2}) {
    const SparsityReport report = RunStep(devices, 1, 5, 2).report;
    ASSERT_EQ(report.steps.size(), 1u);
    std::vector<std::pair<int, int>> layers;
    for (const LayerReport& layer : report.steps[0].layers) {
      layers.emplace_back(layer.invocation, layer.layer);
    }
    EXPECT_EQ(layers, (std::vector<std::pair<int, int>>{{0, 0}, {0, 1}, {1, 0}, {1, 1}}));
  }
}

TEST(GuidedModel, FailuresOfEitherDeviceEndTheStep) {
  for (const auto& prompts : {std::pair{13.0f, 2.0f}, {5.0f, 13.0f}}) {
    EXPECT_EQ(ErrorOf([&] { RunStep(2, 2, prompts.first, prompts.second); }, ErrorCode::kDevice),
              "work on GPU 1: failed");
  }
}

}  // namespace
}  // namespace tamias
