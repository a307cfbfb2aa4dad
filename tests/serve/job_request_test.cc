#include "serve/job_request.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "serve/api_error.h"

namespace tamias::serve {
namespace {

constexpr size_t kGiB = size_t{1} << 30;

// What the plan is refused with; empty: it fits.
std::string Refusal(const MemoryPlan& plan,
                    const std::map<std::string, size_t>& idle_gpu_bytes = {}) {
  const std::vector<MemoryLimit> limits = {{.name = "memory", .bytes = 8 * kGiB}};
  try {
    CheckFits(plan, limits, idle_gpu_bytes);
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status, 400);
    EXPECT_EQ(error.code, "too_large");
    EXPECT_EQ(error.param, "size");
    return error.what();
  }
  return "";
}

MemoryPlan PlanOf(size_t host_bytes, const std::vector<size_t>& gpu_bytes = {}) {
  MemoryPlan plan;
  plan.peak_bytes = host_bytes;
  for (const size_t bytes : gpu_bytes) {
    plan.devices.push_back({.device = "cuda:" + std::to_string(plan.devices.size()),
                            .entries = {},
                            .bytes = bytes,
                            .card_bytes = 24 * kGiB,
                            .free_bytes = 4 * kGiB});
  }
  return plan;
}

TEST(CheckFits, RefusesWhatTheHostDoesNotHave) {
  EXPECT_EQ(Refusal(PlanOf(8 * kGiB)), "");
  EXPECT_EQ(Refusal(PlanOf(9 * kGiB)),
            "size: needs 9.00 GiB of memory, and the server has 8.00 GiB");
}

TEST(CheckFits, RefusesWhatOneOfTheGpusDoesNotHave) {
  EXPECT_EQ(Refusal(PlanOf(kGiB, {4 * kGiB, 4 * kGiB})), "");
  EXPECT_EQ(Refusal(PlanOf(kGiB, {4 * kGiB, 5 * kGiB})),
            "size: needs 5.00 GiB of GPU memory, and the server has 4.00 GiB on cuda:1");
}

// Another model's weights take what the plan does not find free.
TEST(CheckFits, CountsWhatAGpuHasWhenNoJobRuns) {
  EXPECT_EQ(Refusal(PlanOf(kGiB, {5 * kGiB}), {{"cuda:0", 6 * kGiB}}), "");
  EXPECT_EQ(Refusal(PlanOf(kGiB, {7 * kGiB}), {{"cuda:0", 6 * kGiB}}),
            "size: needs 7.00 GiB of GPU memory, and the server has 6.00 GiB on cuda:0");
  EXPECT_EQ(Refusal(PlanOf(kGiB, {4 * kGiB}), {{"cuda:0", 2 * kGiB}}), "");
}

}  // namespace
}  // namespace tamias::serve
