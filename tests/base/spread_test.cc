// Choosing some of many in a row.
#include "base/spread.h"

#include <gtest/gtest.h>

#include <cmath>

namespace tamias {
namespace {

TEST(Spread, ChoosesAsManyAsAskedAndOfEveryRunItsShare) {
  for (int64_t count = 1; count <= 20; ++count) {
    for (int64_t chosen = 0; chosen <= count; ++chosen) {
      for (int64_t begin = 0; begin < count; ++begin) {
        int64_t found = 0;
        for (int64_t i = begin; i < count; ++i) {
          found += IsAmongSpread(i, chosen, count) ? 1 : 0;
          const double share = static_cast<double>(chosen) * static_cast<double>(i + 1 - begin) /
                               static_cast<double>(count);
          EXPECT_LT(std::abs(static_cast<double>(found) - share), 1);
        }
        if (begin == 0) {
          EXPECT_EQ(found, chosen);
        }
      }
    }
  }
}

}  // namespace
}  // namespace tamias
