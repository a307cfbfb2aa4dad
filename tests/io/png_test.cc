#include "io/png.h"

#include <png.h>

#include <map>
#include <random>

#include "tests/support/errors.h"
#include "tests/support/test_files.h"

namespace tamias {
namespace {

Image Noise(int width, int height) {
  Image image{.width = width, .height = height, .rgb = {}};
  std::minstd_rand random(7);
  for (int i = 0; i < width * height * 3; ++i) {
    image.rgb.push_back(static_cast<uint8_t>(random() >> 8));
  }
  return image;
}

TEST(Png, RoundTripsPixelsAndText) {
  const TemporaryFolder folder;
  for (const auto& [width, height] : {std::pair{1, 1}, {7, 3}, {64, 65}}) {
    const Image image = Noise(width, height);
    const PngText text = {{"prompt", "a red circle"},
                          {"title", "ein Bär — 熊 🐻"},
                          {"parameters", std::string(5000, 'x') + "\nsteps: 50"},
                          {"empty", ""}};
    WritePng(folder / "a.png", image, text);
    const PngPicture read = ReadPng(folder / "a.png");
    EXPECT_EQ(read.image.width, width);
    EXPECT_EQ(read.image.height, height);
    EXPECT_EQ(read.image.rgb, image.rgb);
    EXPECT_EQ(read.text, text);
    EXPECT_EQ(folder.NumFiles(), 1u);
  }
}

TEST(Png, RefusesImpossibleImages) {
  const TemporaryFolder folder;
  const auto fails = [&](std::string_view message, const Image& image, const PngText& text = {}) {
    ExpectError(ErrorCode::kInvalidArgument, message,
                [&] { WritePng(folder / "a.png", image, text); });
  };
  fails("picture of 0x1 pixels: sides must be 1 to 32768", {.width = 0, .height = 1, .rgb = {}});
  fails("picture of 1x32769 pixels", {.width = 1, .height = 32769, .rgb = {}});
  fails("picture of -1x1 pixels", {.width = -1, .height = 1, .rgb = {}});
  Image image = Noise(2, 2);
  image.rgb.pop_back();
  fails("png: picture of 2x2 pixels: expected 12 bytes, found 11", image);
  const std::vector<PngText> invalid = {
      {{"", "v"}},     {{std::string(80, 'k'), "v"}},  {{"kéy", "v"}}, {{" k", "v"}}, {{"k ", "v"}},
      {{"a  b", "v"}}, {{"k", std::string("a\0b", 3)}}};
  for (const PngText& text : invalid) {
    fails("expected a keyword of 1 to 79 ASCII characters", Noise(1, 1), text);
  }
  EXPECT_EQ(folder.NumFiles(), 0u);
}

TEST(Png, ReportsWhatTheSystemRefuses) {
  const TemporaryFolder folder;
  ExpectError(ErrorCode::kIo, "/dev/full: cannot write: No space left on device",
              [] { WritePng("/dev/full", Noise(4, 4)); });
  ExpectError(ErrorCode::kIo, "none/a.png: cannot create: No such file",
              [&] { WritePng(folder / "none/a.png", Noise(4, 4)); });
  ExpectError(ErrorCode::kNotFound, "a.png: cannot open", [&] { ReadPng(folder / "a.png"); });
}

TEST(Png, RefusesEveryCutOffLengthAndSurvivesBitFlips) {
  const TemporaryFolder folder;
  WritePng(folder / "a.png", Noise(3, 2), {{"prompt", "ü"}});
  const std::string whole = ReadBytes(folder / "a.png");
  const auto decode = [](std::string_view bytes) {
    return DecodePng({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, "a.png");
  };
  for (size_t size = 0; size < whole.size(); ++size) {
    SCOPED_TRACE(size);
    ExpectError(ErrorCode::kInvalidFile, "a.png: not a readable PNG: ", [&] {
      decode(std::string_view(whole).substr(0, size));
    });
  }
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    try {
      const Image read = decode(WithFlippedBit(whole, bit)).image;
      EXPECT_EQ(read.rgb.size(), static_cast<size_t>(read.width * read.height * 3));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidFile) << error.what();
    }
  }
}

// A file of another kind than ours, written by libpng itself.
std::string Encode(int color_type, int bit_depth, int interlace) {
  std::string bytes;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &bytes,
      [](png_structp p, png_bytep data, size_t size) {
        static_cast<std::string*>(png_get_io_ptr(p))->append(reinterpret_cast<char*>(data), size);
      },
      nullptr);
  png_set_IHDR(png, info, 9, 5, bit_depth, color_type, interlace, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  const png_color palette[2] = {{10, 20, 30}, {40, 50, 60}};
  if (color_type == PNG_COLOR_TYPE_PALETTE) png_set_PLTE(png, info, palette, 2);
  std::vector<uint8_t> pixels(9 * 8 * 5, color_type == PNG_COLOR_TYPE_PALETTE ? 0 : 0xFF);
  std::vector<png_bytep> rows;
  for (size_t y = 0; y < 5; ++y) rows.push_back(pixels.data() + y * 72);
  png_set_rows(png, info, rows.data());
  png_write_png(png, info, PNG_TRANSFORM_IDENTITY, nullptr);
  png_destroy_write_struct(&png, &info);
  return bytes;
}

TEST(Png, ReadsEveryKindOfPng) {
  const std::pair<int, int> kinds[] = {
      {PNG_COLOR_TYPE_GRAY, 1},       {PNG_COLOR_TYPE_GRAY, 8},       {PNG_COLOR_TYPE_GRAY, 16},
      {PNG_COLOR_TYPE_GRAY_ALPHA, 8}, {PNG_COLOR_TYPE_RGB, 8},        {PNG_COLOR_TYPE_RGB, 16},
      {PNG_COLOR_TYPE_RGB_ALPHA, 8},  {PNG_COLOR_TYPE_RGB_ALPHA, 16}, {PNG_COLOR_TYPE_PALETTE, 1},
      {PNG_COLOR_TYPE_PALETTE, 8}};
  for (const auto& [color_type, bit_depth] : kinds) {
    for (const int interlace : {PNG_INTERLACE_NONE, PNG_INTERLACE_ADAM7}) {
      SCOPED_TRACE(::testing::Message() << color_type << " " << bit_depth << " " << interlace);
      const std::string bytes = Encode(color_type, bit_depth, interlace);
      const Image image =
          DecodePng({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, "a.png").image;
      ASSERT_EQ(image.rgb.size(), 9u * 5 * 3);
      const bool is_palette = color_type == PNG_COLOR_TYPE_PALETTE;
      for (size_t i = 0; i < image.rgb.size(); ++i) {
        ASSERT_EQ(image.rgb[i], is_palette ? 10 + 10 * (i % 3) : 255);
      }
    }
  }
}

}  // namespace
}  // namespace tamias
