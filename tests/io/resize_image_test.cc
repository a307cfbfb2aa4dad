#include "io/resize_image.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "io/safetensors.h"

namespace tamias {
namespace {

Image ToImage(ConstTensorView pixels) {
  const auto* rgb = pixels.data<uint8_t>();
  return {static_cast<int>(pixels.dim(1)),
          static_cast<int>(pixels.dim(0)),
          {rgb, rgb + pixels.NumElements()}};
}

// Noise, made smaller and larger along each side, by Pillow 12. Of the last two Pillow 13 would
// resize the columns first.
TEST(ResizeImage, GivesPillowsBytes) {
  const SafetensorsFile file(std::filesystem::path(TAMIAS_TEST_DATA) /
                             "io/images/resized.safetensors");
  int index = 0;
  for (; file.Has(std::to_string(index) + ".image"); ++index) {
    SCOPED_TRACE(index);
    const std::string prefix = std::to_string(index) + ".";
    const Image image = ToImage(file.Get(prefix + "image"));
    for (const auto& [name, filter] :
         {std::pair{"bicubic", ResizeFilter::kBicubic}, {"lanczos", ResizeFilter::kLanczos}}) {
      SCOPED_TRACE(name);
      const Image expected = ToImage(file.Get(prefix + name));
      const Image resized = ResizeImage(image, expected.width, expected.height, filter);
      EXPECT_EQ(resized.width, expected.width);
      EXPECT_EQ(resized.height, expected.height);
      EXPECT_EQ(resized.rgb, expected.rgb);
    }
  }
  EXPECT_EQ(index, 8);
}

TEST(ResizeImage, ResizesRowsBeforeColumns) {
  Image image{7, 90, {}};
  for (int i = 0; i < 7 * 90 * 3; ++i) image.rgb.push_back(static_cast<uint8_t>(i * i % 251));
  const auto resize = [](const Image& from, int width, int height) {
    return ResizeImage(from, width, height, ResizeFilter::kLanczos);
  };
  const Image expected = resize(resize(image, 6, 90), 6, 31);
  EXPECT_EQ(resize(image, 6, 31).rgb, expected.rgb);
  EXPECT_NE(resize(resize(image, 7, 31), 6, 31).rgb, expected.rgb);
}

TEST(ResizeImage, LeavesAPictureOfTheRightSizeAsItIs) {
  const Image image{2, 1, {0, 255, 7, 9, 200, 31}};
  EXPECT_EQ(ResizeImage(image, 2, 1, ResizeFilter::kLanczos).rgb, image.rgb);
}

}  // namespace
}  // namespace tamias
