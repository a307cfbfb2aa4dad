#include "base/cuda/compute_capability.h"

#include <gtest/gtest.h>

#include "tests/support/errors.h"

namespace tamias::cuda {
namespace {

std::string RefusalOf(const char* name, int compute_capability) {
  return ErrorOf(
      [&] { CheckComputeCapability({.name = name, .compute_capability = compute_capability}); },
      ErrorCode::kUnsupported);
}

TEST(ComputeCapability, GpusOlderThanTheKernelsAreRefusedByName) {
  EXPECT_EQ(RefusalOf("Tesla T4", 75), "Tesla T4 (compute capability 7.5): 8.0 or later is needed");
  EXPECT_EQ(RefusalOf("Tesla V100-SXM2-16GB", 70),
            "Tesla V100-SXM2-16GB (compute capability 7.0): 8.0 or later is needed");
  EXPECT_NE(RefusalOf("Quadro K620", 50), "");
  EXPECT_NE(RefusalOf("", 0), "");
  for (const int capability : {80, 86, 87, 89, 90, 100, 103, 120, 121}) {
    EXPECT_EQ(RefusalOf("a GPU", capability), "") << capability;
  }
}

}  // namespace
}  // namespace tamias::cuda
