#include "tamias/random.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "io/safetensors.h"

namespace tamias {
namespace {

// torch computes the logarithm, sine and cosine with its own vectorised fp32 functions.
constexpr float kTolerance = 2e-6f;

std::vector<float> Normal(uint64_t seed, size_t count) {
  std::vector<float> values(count);
  TorchNormal(seed, values);
  return values;
}

void ExpectNear(std::span<const float> actual, ConstTensorView expected) {
  ASSERT_EQ(static_cast<int64_t>(actual.size()), expected.NumElements());
  for (size_t i = 0; i < actual.size(); ++i) {
    const float e = expected.data<float>()[i];
    EXPECT_NEAR(actual[i], e, kTolerance * std::max(1.0f, std::abs(e))) << "at " << i;
  }
}

class TorchNormalTest : public testing::Test {
 protected:
  SafetensorsFile expected_{std::string(TAMIAS_TEST_DATA) + "/base/torch_normal.safetensors"};
};

TEST_F(TorchNormalTest, AgreesWithTorchAtEverySmallSize) {
  for (const uint64_t seed : {uint64_t{0}, uint64_t{42}, (uint64_t{1} << 32) + 5}) {
    for (size_t size = 1; size <= 40; ++size) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << ", size " << size);
      ExpectNear(Normal(seed, size),
                 expected_.Get(std::to_string(seed) + "." + std::to_string(size)));
    }
  }
}

TEST_F(TorchNormalTest, AgreesWithTorchAtBothEndsOfLargeTensors) {
  for (const auto& [seed, size] : {std::pair{3, 65539}, std::pair{9, 2 * 16 * 7 * 9}}) {
    const std::string name = std::to_string(seed) + "." + std::to_string(size);
    SCOPED_TRACE(name);
    const std::vector<float> values =
        Normal(static_cast<uint64_t>(seed), static_cast<size_t>(size));
    ExpectNear(std::span(values).first(40), expected_.Get(name + ".first"));
    ExpectNear(std::span(values).last(40), expected_.Get(name + ".last"));
  }
}

TEST_F(TorchNormalTest, LaterTensorsOfAGeneratorAgreeWithTorch) {
  TorchGenerator generator(7);
  int index = 0;
  for (const size_t size : {5, 40, 3, 16, 1, 33}) {  // below 16 one number may be left for the next
    SCOPED_TRACE(index);
    std::vector<float> values(size);
    generator.Normal(values);
    ExpectNear(values, expected_.Get("stream." + std::to_string(index++)));
  }
}

TEST(CounterRandom, IsUniformAndIndependentOfOrder) {
  double sum = 0;
  constexpr int kCount = 100'000;
  for (int i = 0; i < kCount; ++i) sum += CounterRandom(1, static_cast<uint64_t>(i));
  // The mean of n uniform numbers deviates by 0.29 / sqrt(n): five of those.
  EXPECT_NEAR(sum / kCount * 0x1p-32, 0.5, 5 * 0.29 / std::sqrt(kCount));
  EXPECT_EQ(CounterRandom(1, 7), CounterRandom(1, 7));
  EXPECT_NE(CounterRandom(1, 7), CounterRandom(2, 7));
}

TEST(CounterRandom, IsContinuedByTheSeedOfAnIndex) {
  for (const uint64_t index : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 40}) {
    EXPECT_EQ(CounterRandom(SeedFrom(3, index), 5), CounterRandom(3, index + 5)) << index;
  }
}

}  // namespace
}  // namespace tamias
