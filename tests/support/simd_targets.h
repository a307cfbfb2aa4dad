// Runs a test body once for every instruction set that this machine has and the library was built
// for.
#pragma once

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <cstdint>

namespace tamias {

template <typename Body>
void ForEachSimdTarget(const Body& body) {
  // AVX3_DL and SSSE3 are left out: the library is not built for them (src/CMakeLists.txt).
  for (const int64_t target : {HWY_AVX3, HWY_AVX2, HWY_SSE4, HWY_NEON, HWY_SCALAR}) {
    const bool is_fallback = target == HWY_SCALAR;
    if (!is_fallback && (hwy::SupportedTargets() & target) == 0) continue;
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().DeInit();
    body();
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().DeInit();
  }
}

}  // namespace tamias
