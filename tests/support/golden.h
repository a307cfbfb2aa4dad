// What the pipeline tests share: likeness to latents and frames that diffusers made.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "io/safetensors.h"
#include "tamias/pipeline.h"
#include "tests/support/compare_tensors.h"

namespace tamias {

// fp32 on both sides, sums in another order: 50 operations deep, a few steps long.
constexpr double kLatentTolerance = 1e-3;
constexpr double kFramePsnr = 45;  // dB
// bf16 on our side alone.
constexpr double kBFloat16LatentTolerance = 2e-2;

// expected [images, N, C] f32.
inline void ExpectLatents(const GenerateResult& result, ConstTensorView expected,
                          double tolerance = kLatentTolerance) {
  ASSERT_EQ(static_cast<int64_t>(result.latents.size()), expected.dim(0));
  for (size_t i = 0; i < result.latents.size(); ++i) {
    const Latents& found = result.latents[i];
    ASSERT_EQ(found.tokens, expected.dim(1));
    ASSERT_EQ(found.channels, expected.dim(2));
    const ConstTensorView one = expected.Select(0, static_cast<int64_t>(i));
    EXPECT_LT(RelativeL2(found.values, ValuesOf(one)), tolerance) << "picture or film " << i;
  }
}

// expected [T, H, W, 3] u8.
inline void ExpectFrames(const std::vector<Image>& frames, ConstTensorView expected) {
  ASSERT_EQ(static_cast<int64_t>(frames.size()), expected.dim(0));
  for (size_t i = 0; i < frames.size(); ++i) {
    const ConstTensorView frame = expected.Select(0, static_cast<int64_t>(i));
    const auto* rgb = frame.data<uint8_t>();
    const Image image{static_cast<int>(frame.dim(1)),
                      static_cast<int>(frame.dim(0)),
                      {rgb, rgb + frame.NumElements()}};
    EXPECT_GT(Psnr(frames[i], image), kFramePsnr) << "frame " << i;
  }
}

// One film, its latents and frames under the names that the fixtures give them.
inline void ExpectFilm(const GenerateResult& result, const SafetensorsFile& golden, double fps) {
  ExpectLatents(result, golden.Get("latents"));
  const double error = RelativeL2(result.latents[0].values, ValuesOf(golden.Get("latents")));
  testing::Test::RecordProperty("relative_l2", std::to_string(error));
  ASSERT_EQ(result.videos.size(), 1u);
  EXPECT_EQ(result.videos[0].fps, fps);
  ExpectFrames(result.videos[0].frames, golden.Get("frames"));
}

}  // namespace tamias
