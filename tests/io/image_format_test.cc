// Pictures as files of every format: what is written is read again, with its settings; what cannot
// be written is refused.
#include "io/image_format.h"

#include <cmath>

#include "io/exif.h"
#include "tamias/image.h"
#include "tests/support/errors.h"
#include "tests/support/test_files.h"

namespace tamias {
namespace {

// Smooth colours with one edge.
Image Scene(int width, int height) {
  Image image{width, height, {}};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const int edge = x > width / 2 ? 40 : 0;
      image.rgb.push_back(static_cast<uint8_t>(60 + edge + 100 * x / width));
      image.rgb.push_back(static_cast<uint8_t>(200 - 150 * y / height));
      image.rgb.push_back(static_cast<uint8_t>(80 + edge));
    }
  }
  return image;
}

std::span<const uint8_t> Bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

TEST(ImageFormat, FollowsTheExtension) {
  EXPECT_EQ(ImageFormatOf("a/b.png"), ImageFormat::kPng);
  EXPECT_EQ(ImageFormatOf("a.b.JPG"), ImageFormat::kJpeg);
  EXPECT_EQ(ImageFormatOf("a.jpeg"), ImageFormat::kJpeg);
  EXPECT_EQ(ImageFormatOf("a.WebP"), ImageFormat::kWebp);
  for (const char* path :
       {"", "a", ".png", "a.", "a.gif", "a.png.txt", "v1.5 heart", "png", "a.jpg/"}) {
    EXPECT_EQ(ImageFormatOf(path), std::nullopt) << path;
    EXPECT_FALSE(IsImagePath(path)) << path;
  }
}

TEST(WriteImage, WritesWhatIsReadAgain) {
  const TemporaryFolder folder;
  for (const auto& [width, height] : {std::pair{1, 1}, {7, 3}, {64, 65}}) {
    const Image image = Scene(width, height);
    for (const char* name : {"a.png", "a.jpg", "a.webp"}) {
      SCOPED_TRACE(::testing::Message() << name << " " << width << "x" << height);
      WriteImage(folder / name, image, {{"Description", "ein Bär"}, {"tamias", "{}"}});
      const Image read = ReadImage(folder / name);
      ASSERT_EQ(read.width, width);
      ASSERT_EQ(read.height, height);
      // WebP halves the colours' resolution, which tells beside the edge of a picture of 7x3
      // pixels.
      EXPECT_GT(Psnr(read, image), ImageFormatOf(name) == ImageFormat::kPng ? 1000 : 25);
    }
  }
  EXPECT_EQ(folder.NumFiles(), 3u);
}

TEST(WriteImage, QualityTradesBytesForLikeness) {
  const Image image = Scene(96, 64);
  for (const ImageFormat format : {ImageFormat::kJpeg, ImageFormat::kWebp}) {
    size_t bytes = 0;
    double psnr = 0;
    for (const int quality : {1, 50, 90, 100}) {
      SCOPED_TRACE(quality);
      const std::string file = EncodeImage(format, image, {}, {.quality = quality});
      const double likeness = Psnr(DecodeImage(Bytes(file), "a"), image);
      EXPECT_GT(file.size(), bytes);
      EXPECT_GT(likeness, psnr);
      bytes = file.size();
      psnr = likeness;
    }
    EXPECT_EQ(EncodeImage(format, image, {}, {}), EncodeImage(format, image, {}, {.quality = 90}));
  }
}

TEST(WriteImage, RefusesWhatCannotBeWritten) {
  const TemporaryFolder folder;
  const auto refuses = [&](std::string_view message, const char* name, const Image& image,
                           const ImageText& text = {}, const ImageOptions& options = {}) {
    ExpectError(ErrorCode::kInvalidArgument, message,
                [&] { WriteImage(folder / name, image, text, options); });
  };
  for (const char* name : {"a", "a.gif", "v1.5 heart"}) {
    refuses("expected a picture's extension: .png, .jpg, .jpeg or .webp", name, Scene(2, 2));
  }
  for (const char* name : {"a.png", "a.jpg", "a.webp"}) {
    for (const int quality : {0, 101, -5}) {
      refuses("quality: expected a whole number from 1 to 100", name, Scene(2, 2), {},
              {.quality = quality});
    }
    refuses("picture of 0x1 pixels", name, {0, 1, {}});
    refuses("picture of 2x2 pixels: expected 12 bytes, found 3", name, {2, 2, {1, 2, 3}});
  }
  refuses("jpeg: picture of 32769x1 pixels: sides must be 1 to 32768", "a.jpg", Scene(32769, 1));
  refuses("webp: picture of 1x16384 pixels: sides must be 1 to 16383", "a.webp", Scene(1, 16384));
  const ImageText long_text = {{"Description", std::string(70000, 'x')}};
  for (const char* name : {"a.jpg", "a.webp"}) {
    refuses("text 'Description': too long", name, Scene(2, 2), long_text);
    refuses("is not valid UTF-8", name, Scene(2, 2), {{"tamias", "\xFF"}});
  }
  WriteImage(folder / "a.png", Scene(2, 2), long_text);
  EXPECT_EQ(folder.NumFiles(), 1u);
  ExpectError(ErrorCode::kIo, "none/a.jpg: cannot create",
              [&] { WriteImage(folder / "none/a.jpg", Scene(2, 2)); });
}

TEST(CheckImageFile, RefusesBeforeThereIsAPicture) {
  for (const ImageFormat format : {ImageFormat::kPng, ImageFormat::kJpeg, ImageFormat::kWebp}) {
    CheckImageFile(format, 640, 480, {{"Description", "a"}}, {});
    ExpectError(ErrorCode::kInvalidArgument, "picture of 640x40000 pixels: sides must be 1 to",
                [&] { CheckImageFile(format, 640, 40000, {}, {}); });
    ExpectError(ErrorCode::kInvalidArgument, "quality",
                [&] { CheckImageFile(format, 640, 480, {}, {.quality = 0}); });
  }
  ExpectError(ErrorCode::kInvalidArgument, "text 'Description': too long", [] {
    CheckImageFile(ImageFormat::kJpeg, 8, 8, {{"Description", std::string(70000, 'x')}}, {});
  });
}

TEST(Exif, EncodesOnlyWhatItHasAPlaceFor) {
  EXPECT_EQ(EncodeExif({}), "");
  EXPECT_EQ(EncodeExif({{"other", "x"}}), "");
  const std::string exif = EncodeExif({{"Description", "a red star"}, {"other", "x"}});
  EXPECT_TRUE(exif.starts_with(std::string_view("Exif\0\0MM", 8)));
  EXPECT_NE(exif.find("a red star"), std::string::npos);
  EXPECT_EQ(ExifOrientation(Bytes(exif)), std::nullopt);
}

// TIFF of one entry: "II" or "MM", 42, the offset of the directory, its length, then tag, type,
// count, value, all in that byte order.
std::string Tiff(bool is_big, uint16_t type, uint16_t value, uint16_t entries = 1) {
  std::string tiff = is_big ? "MM" : "II";
  const auto append = [&](uint32_t number, int bytes) {
    for (int i = 0; i < bytes; ++i) {
      tiff += static_cast<char>(number >> (8 * (is_big ? bytes - 1 - i : i)));
    }
  };
  append(42, 2);
  append(8, 4);
  append(entries, 2);
  append(0x0112, 2);
  append(type, 2);
  append(1, 4);
  append(value, 2);
  append(0, 2);
  append(0, 4);
  return tiff;
}

TEST(Exif, ReadsTheOrientationInBothByteOrders) {
  constexpr uint16_t kShort = 3;
  for (const bool is_big : {false, true}) {
    const std::string tiff = Tiff(is_big, kShort, 6);
    EXPECT_EQ(ExifOrientation(Bytes(tiff)), 6);
    EXPECT_EQ(ExifOrientation(Bytes(std::string("Exif\0\0", 6) + tiff)), 6);
    for (size_t size = 0; size < tiff.size(); ++size) {  // no end beyond the file's is read
      ExifOrientation(Bytes(std::string_view(tiff).substr(0, size)));
    }
  }
  EXPECT_EQ(ExifOrientation(Bytes("no EXIF at all")), std::nullopt);
  ExifOrientation(Bytes(Tiff(true, kShort, 6, 65535)));  // more entries than there are
}

TEST(Exif, PrefersExifToXmp) {
  const std::string tiff = Tiff(true, 3, 6);
  EXPECT_EQ(OrientationOf(Bytes(tiff), "tiff:Orientation=\"3\""), 6);
  EXPECT_EQ(OrientationOf({}, "tiff:Orientation=\"3\""), 3);
  EXPECT_EQ(OrientationOf({}, "<tiff:Orientation>8</tiff:Orientation>"), 8);
  for (const char* xmp :
       {"", "tiff:Orientation=\"", "tiff:Orientation=\"0\"", "tiff:Orientation>x"}) {
    EXPECT_EQ(OrientationOf({}, xmp), 1) << xmp;
  }
}

}  // namespace
}  // namespace tamias
