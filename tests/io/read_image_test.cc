// Reading pictures: files of every kind against the pixels that Pillow reads (see
// tools/fixtures/make_image_fixtures.py), and files that are not what they say.
#include "tamias/image.h"

#include <cstring>

#include "io/png.h"
#include "io/safetensors.h"
#include "tests/support/errors.h"
#include "tests/support/test_files.h"

namespace tamias {
namespace {

const std::filesystem::path kImages = std::filesystem::path(TAMIAS_TEST_DATA) / "io/images";

Image Decode(std::string_view bytes) {
  return DecodeImage({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, "a.jpg");
}

Image ToImage(ConstTensorView pixels) {
  const auto* rgb = pixels.data<uint8_t>();
  return {static_cast<int>(pixels.dim(1)),
          static_cast<int>(pixels.dim(0)),
          {rgb, rgb + pixels.NumElements()}};
}

class ReadJpeg : public ::testing::TestWithParam<const char*> {};

// The two decoders round differently and enlarge the colours of 4:2:0 with other filters; a picture
// that is turned or has its colours confused is below 20 dB.
TEST_P(ReadJpeg, AgreesWithPillow) {
  const SafetensorsFile expected(kImages / "pixels.safetensors");
  const std::string name = GetParam();
  const Image image = ReadImage(kImages / (name + ".jpg"));
  const Image pillow = ToImage(expected.Get(name));
  ASSERT_EQ(image.width, pillow.width);
  ASSERT_EQ(image.height, pillow.height);
  EXPECT_GT(Psnr(image, pillow), name.find("444") != name.npos || name == "grey" ? 50 : 38);
}

INSTANTIATE_TEST_SUITE_P(, ReadJpeg,
                         ::testing::Values("baseline-420", "baseline-422", "baseline-444",
                                           "progressive", "grey", "orientation-1", "orientation-2",
                                           "orientation-3", "orientation-4", "orientation-5",
                                           "orientation-6", "orientation-7", "orientation-8"));

class ReadWebpAndPng : public ::testing::TestWithParam<const char*> {};

// PNG and lossless WebP hold the pixels; in lossy WebP only the colours' enlarging may differ.
TEST_P(ReadWebpAndPng, AgreesWithPillow) {
  const SafetensorsFile expected(kImages / "pixels.safetensors");
  const Image image = ReadImage(kImages / GetParam());
  const Image pillow = ToImage(expected.Get(GetParam()));
  ASSERT_EQ(image.width, pillow.width);
  ASSERT_EQ(image.height, pillow.height);
  const bool is_lossy = std::string_view(GetParam()) == "lossy.webp";
  EXPECT_GT(Psnr(image, pillow), is_lossy ? 50 : 1000);
}

INSTANTIATE_TEST_SUITE_P(, ReadWebpAndPng,
                         ::testing::Values("exif-5.png", "exif-8.png", "exif-9.png",
                                           "raw-profile-6.png", "xmp-6.png", "exif-7-xmp-3.png",
                                           "alpha.png", "lossy.webp", "lossless.webp", "alpha.webp",
                                           "exif-6.webp", "xmp-8.webp"));

TEST(ReadImage, TurnsAJpegAsXmpSays) {
  const SafetensorsFile expected(kImages / "pixels.safetensors");
  EXPECT_GT(Psnr(ReadImage(kImages / "xmp-8.jpg"), ToImage(expected.Get("xmp-8.jpg"))), 38);
}

TEST(ReadImage, RefusesWebpThatIsNoOnePicture) {
  ExpectError(ErrorCode::kUnsupported, "animated.webp: an animated WebP: expected one picture",
              [] { ReadImage(kImages / "animated.webp"); });
}

TEST(ReadImage, RefusesEveryCutOffWebp) {
  for (const char* name : {"lossy.webp", "lossless.webp", "exif-6.webp"}) {
    const std::string whole = ReadBytes(kImages / name);
    for (size_t size = 12; size < whole.size(); ++size) {
      SCOPED_TRACE(size);
      ExpectError(ErrorCode::kInvalidFile, "a.jpg: not a readable WebP: cut off",
                  [&] { Decode(std::string_view(whole).substr(0, size)); });
    }
  }
}

void ExpectPictureOrError(std::string_view bytes) {
  try {
    const Image read = Decode(bytes);
    EXPECT_EQ(read.rgb.size(), static_cast<size_t>(read.width) * read.height * 3);
  } catch (const Error& error) {
    EXPECT_TRUE(error.code() == ErrorCode::kInvalidFile || error.code() == ErrorCode::kUnsupported)
        << error.what();
  }
}

TEST(ReadImage, SurvivesBitFlipsInWebp) {
  for (const char* name : {"lossy.webp", "exif-6.webp"}) {
    const std::string whole = ReadBytes(kImages / name);
    for (size_t bit = 96; bit < whole.size() * 8; ++bit) {
      ExpectPictureOrError(WithFlippedBit(whole, bit));
    }
  }
}

TEST(ReadImage, RefusesAWebpOfMorePixelsThanItsBytesAreMeantFor) {
  std::string bytes = ReadBytes(kImages / "lossless.webp");
  // VP8L: a byte of signature, then both sides less one, 14 bits each.
  bytes.replace(21, 4, std::string("\xFE\xBF\xFF\x0F", 4));
  ExpectError(ErrorCode::kInvalidFile, "a.jpg: 16383x16383 pixels are more than the limit",
              [&] { Decode(bytes); });
  bytes.replace(21, 4, std::string("\xFF\xDF\xFF\x07", 4));
  ExpectError(ErrorCode::kInvalidFile, "a.jpg: not a readable WebP: cut off",
              [&] { Decode(bytes); });
}

TEST(ReadImage, ReadsPngWhateverTheName) {
  const TemporaryFolder folder;
  const Image image{2, 1, {1, 2, 3, 4, 5, 6}};
  WritePng(folder / "picture.jpg", image);
  EXPECT_EQ(ReadImage(folder / "picture.jpg").rgb, image.rgb);
}

TEST(ReadImage, NamesTheFileThatIsNoPicture) {
  const TemporaryFolder folder;
  ExpectError(ErrorCode::kNotFound, "none.png: cannot open",
              [&] { ReadImage(folder / "none.png"); });
  for (const std::string text : {"", "GIF89a", "\xFF\xD8", "\x89PN", "RIFF1234WAVE", "RIFF"}) {
    WriteBytes(folder / "a.png", text);
    ExpectError(ErrorCode::kInvalidFile, "a.png: neither PNG, JPEG nor WebP",
                [&] { ReadImage(folder / "a.png"); });
  }
  WriteBytes(folder / "a.png", "");
  ExpectError(ErrorCode::kInvalidFile, "nor WebP, but an empty file",
              [&] { ReadImage(folder / "a.png"); });
  WriteBytes(folder / "a.png", "<!DOCTYPE html><html>");
  ExpectError(ErrorCode::kInvalidFile, "nor WebP, but an HTML page",
              [&] { ReadImage(folder / "a.png"); });
}

TEST(ReadImage, RefusesEveryCutOffJpeg) {
  for (const char* name : {"baseline-444.jpg", "progressive.jpg"}) {
    const std::string whole = ReadBytes(kImages / name);
    for (size_t size = 3; size < whole.size(); ++size) {
      SCOPED_TRACE(size);
      ExpectError(ErrorCode::kInvalidFile, "a.jpg: not a readable JPEG: ", [&] {
        Decode(std::string_view(whole).substr(0, size));
      });
    }
  }
}

TEST(ReadImage, SurvivesBitFlipsInJpeg) {
  const std::string whole = ReadBytes(kImages / "grey.jpg");
  for (size_t bit = 24; bit < whole.size() * 8; bit += 3) {
    ExpectPictureOrError(WithFlippedBit(whole, bit));
  }
}

// The size of a baseline file: behind the marker, the length and the bits of a sample.
std::string WithSize(std::string_view size) {
  std::string bytes = ReadBytes(kImages / "baseline-444.jpg");
  const size_t frame = bytes.find("\xFF\xC0");
  return bytes.replace(frame + 5, 4, size);
}

TEST(ReadImage, RefusesSizesThatTheFileCannotHold) {
  using std::string_view_literals::operator""sv;
  ExpectError(ErrorCode::kInvalidFile, "a.jpg: not a readable JPEG: cut off",
              [] { Decode(WithSize("\x20\x00\x40\x00"sv)); });  // 16384 x 8192
  ExpectError(ErrorCode::kInvalidFile,
              "a.jpg: 16384x16384 pixels: ", [] { Decode(WithSize("\x40\x00\x40\x00"sv)); });
  ExpectError(ErrorCode::kInvalidFile, "a.jpg: 65535x1 pixels: sides must be 1 to 32768",
              [] { Decode(WithSize("\x00\x01\xFF\xFF"sv)); });
  ExpectError(ErrorCode::kInvalidFile, "a.jpg: 8x0 pixels",
              [] { Decode(WithSize("\x00\x00\x00\x08"sv)); });
}

TEST(ReadImage, RefusesASecondHeaderBehindThePixels) {
  // A whole picture, then the header of a larger one in the same file.
  const std::string small = ReadBytes(kImages / "grey.jpg");
  const std::string large = ReadBytes(kImages / "baseline-420.jpg");
  const size_t end = small.rfind("\xFF\xD9");
  const std::string joined = small.substr(0, end) + large.substr(2);
  try {
    const Image image = Decode(joined);
    EXPECT_EQ(image.width, 30);
    EXPECT_EQ(image.height, 19);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidFile);
  }
}

TEST(ReadImage, RefusesOtherKindsOfJpeg) {
  ExpectError(ErrorCode::kUnsupported, "cmyk.jpg: only baseline and progressive JPEG",
              [] { ReadImage(kImages / "cmyk.jpg"); });
  ExpectError(ErrorCode::kUnsupported, "4 components, CMYK as for print: save it as RGB)",
              [] { ReadImage(kImages / "cmyk.jpg"); });
  std::string lossless = ReadBytes(kImages / "grey.jpg");
  lossless[lossless.find("\xFF\xC0") + 1] = '\xC3';
  ExpectError(ErrorCode::kUnsupported, "found kind 3, 8 bits, 1 components",
              [&] { Decode(lossless); });
}

// Callers may allow fewer pixels than the formats.
TEST(DecodeImage, RefusesMorePixelsThanItsCallerAllows) {
  for (const char* name : {"alpha.png", "lossy.webp", "progressive.jpg"}) {
    const std::string file = ReadBytes(kImages / name);
    const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(file.data()),
                                         file.size());
    const Image image = DecodeImage(bytes, name);
    const int64_t pixels = int64_t{image.width} * image.height;
    EXPECT_EQ(DecodeImage(bytes, name, pixels).rgb, image.rgb);
    ExpectError(ErrorCode::kInvalidFile, std::to_string(pixels - 1),
                [&] { DecodeImage(bytes, name, pixels - 1); });
  }
}

}  // namespace
}  // namespace tamias
