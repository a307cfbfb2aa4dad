// Jobs that share one GPU, on the emulated one: what they find of its memory is what others leave.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "serve/api_error.h"
#include "serve/job_request.h"
#include "serve/service.h"
#include "tests/cuda_emulator/device.h"
#include "tests/support/test_files.h"

namespace tamias::serve {
namespace {

using testing::HasSubstr;

const std::filesystem::path kModel = std::filesystem::path(TAMIAS_SOURCE_DIR) / "models/demo-flux";
constexpr int kPixels = 32, kTextTokens = 8;  // few: the emulator is slow
constexpr auto kPatience = std::chrono::seconds(120);

class JobsOnAGpu : public testing::Test {
 protected:
  void TearDown() override { cuda_emulator::SetMemoryOfOthers(0); }

  static void Leave(size_t bytes) {
    cuda_emulator::SetMemoryOfOthers(cuda_emulator::kMemoryBytes - bytes);
  }

  static JobRequest Picture() {
    JobRequest request;
    request.prompt = "a red circle";
    request.width = request.height = kPixels;
    request.max_sequence_length = kTextTokens;
    request.steps = 1;
    request.profile = "off";
    return request;
  }

  // Of a picture, where it may have so much; 0: as much as it wants.
  static size_t PlannedBytes(size_t limit) {
    GenerateOptions options;
    options.width = options.height = kPixels;
    options.max_sequence_length = kTextTokens;
    options.sparsity = "off";
    options.device = "cuda";
    options.max_gpu_memory_bytes = limit;
    return Pipeline(kModel).PlanMemory(options).device_bytes;
  }
  static size_t LeastBytes() { return PlannedBytes(1); }

  // With these folders served, two jobs at a time.
  void Serve(const std::vector<std::string>& folders) {
    catalog_ = std::make_unique<ModelCatalog>(folders, Limits(), MachineChoice{.device = "cuda"},
                                              size_t{1} << 30);
    checker_ = std::make_unique<RequestChecker>(*catalog_, Limits());
    const ServiceOptions options{.jobs = temporary_ / "jobs.sqlite",
                                 .output_folder = temporary_.path(),
                                 .concurrent = 2,
                                 .log = [this](const std::string& line) {
                                   const std::scoped_lock lock(mutex_);
                                   log_ += line + "\n";
                                 }};
    service_ = std::make_unique<Service>(options, *catalog_, metrics_);
    service_->Start();
  }

  std::shared_ptr<LiveJob> Submit(const JobRequest& request) {
    return service_->Submit(checker_->Complete(request), "", /*is_kept=*/true);
  }

  std::string log() const {
    const std::scoped_lock lock(mutex_);
    return log_;
  }

  TemporaryFolder temporary_;
  std::unique_ptr<ModelCatalog> catalog_;
  std::unique_ptr<RequestChecker> checker_;
  Metrics metrics_;
  mutable std::mutex mutex_;
  std::string log_;
  std::unique_ptr<Service> service_;  // the last: its workers use the others
};

TEST_F(JobsOnAGpu, WhatFitsNoPlanIsRefused) {
  Leave(LeastBytes() - 1);
  Serve({kModel});
  try {
    Submit(Picture());
    FAIL() << "a job was taken";
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status, 400);
    EXPECT_EQ(error.code, "too_large");
    EXPECT_THAT(error.what(), HasSubstr("of GPU memory, and the server has"));
  }
}

TEST_F(JobsOnAGpu, WhoFindsTooLittleBesideOthersWaitsForThem) {
  Leave(LeastBytes() + (size_t{1} << 20));
  Serve({kModel});
  const auto first = Submit(Picture()), second = Submit(Picture());
  EXPECT_TRUE(first->WaitForEnd(kPatience) && second->WaitForEnd(kPatience));
  EXPECT_EQ(first->job().status, JobStatus::kCompleted) << first->job().error_message;
  EXPECT_EQ(second->job().status, JobStatus::kCompleted) << second->job().error_message;
  EXPECT_THAT(log(), HasSubstr("queued again, to run alone"));
}

// Its weights stay on the GPU while nobody uses it.
TEST_F(JobsOnAGpu, AModelThatNobodyUsesMakesRoom) {
  const std::filesystem::path other = temporary_ / "other";
  std::filesystem::create_directory_symlink(kModel, other);
  Leave(2 * (PlannedBytes(0) + (size_t{1} << 20)));  // libraries are left half of it
  Serve({kModel, other});
  const auto first = Submit(Picture());
  EXPECT_TRUE(first->WaitForEnd(kPatience));
  const size_t held = cuda_emulator::AllocatedBytes();
  EXPECT_GT(held, 0U);
  Leave(held + LeastBytes() - 1);
  JobRequest request = Picture();
  request.model = "other";
  const auto second = Submit(request);
  EXPECT_TRUE(second->WaitForEnd(kPatience));
  EXPECT_EQ(second->job().status, JobStatus::kCompleted) << second->job().error_message;
  EXPECT_THAT(log(), HasSubstr(second->job().id + ": queued again, to run alone"));
}

}  // namespace
}  // namespace tamias::serve
