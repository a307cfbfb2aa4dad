// PNG: files to read (input begins with PNG's signature), with their checksums put right so that
// mutations get past them; else a picture and text to write and read back.
#include <zlib.h>

#include "io/exif.h"
#include "io/png.h"
#include "tamias/error.h"
#include "tests/fuzz/fuzz_target.h"

namespace tamias::fuzz {

// Signature (8 bytes), then chunks of u32 length, type, data, u32 checksum of type and data.
static std::vector<uint8_t> WithRightChecksums(Bytes input) {
  std::vector<uint8_t> file(input.begin(), input.end());
  constexpr size_t kSignature = 8, kFrame = 12;
  for (size_t at = kSignature; at + kFrame <= file.size();) {
    size_t length = 0;
    for (size_t i = 0; i < 4; ++i) length = length << 8 | file[at + i];
    if (length > file.size() - at - kFrame) break;
    const auto checksum =
        crc32(0, file.data() + at + 4, static_cast<uInt>(length + 4)) & 0xFFFFFFFFu;
    for (size_t i = 0; i < 4; ++i) {
      file[at + 8 + length + i] = static_cast<uint8_t>(checksum >> (24 - 8 * i));
    }
    at += kFrame + length;
  }
  return file;
}

static void Read(Bytes input) {
  try {
    const PngPicture picture = DecodePng(input, "a.png");
    const Image& image = picture.image;
    // A second copy of the largest pictures would go beyond the fuzzer's own limit on memory.
    if (image.rgb.size() < size_t{1} << 24) {
      const Image turned = TurnUpright(image, picture.orientation);
      Require(turned.rgb.size() == image.rgb.size(), "turning keeps every pixel");
    }
    Require(image.rgb.size() == static_cast<size_t>(image.width * image.height * 3),
            "every pixel is there");
  } catch (const Error& error) {
    Require(error.code() == ErrorCode::kInvalidFile, "a broken file is kInvalidFile");
  }
}

// The first byte gives the width, the second the size of the keyword; the rest is used as keyword,
// value and pixels.
static void WriteAndReadBack(Bytes input) {
  if (input.size() < 2) return;
  Image image;
  image.width = 1 + input[0] % 16;
  const std::string_view rest = AsText(input.subspan(2));
  const size_t keyword_size = std::min<size_t>(input[1] % 80, rest.size());
  const PngText text = {
      {std::string(rest.substr(0, keyword_size)), std::string(rest.substr(keyword_size))}};
  const auto stride = static_cast<size_t>(image.width) * 3;
  image.height = 1 + static_cast<int>(rest.size() / stride);
  image.rgb.resize(stride * static_cast<size_t>(image.height), 0);
  std::copy(rest.begin(), rest.end(), image.rgb.begin());
  try {
    const std::string bytes = EncodePng(image, text);
    const PngPicture read =
        DecodePng({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, "written.png");
    Require(read.image.width == image.width && read.image.height == image.height,
            "the size round-trips");
    Require(read.image.rgb == image.rgb, "pixels round-trip");
    Require(read.text == text, "text round-trips");
  } catch (const Error& error) {
    Require(error.code() == ErrorCode::kInvalidArgument, "what is written can be read");
  }
}

TAMIAS_FUZZ_TARGET(png)(Bytes input) {
  const bool is_file = input.size() >= 4 && AsText(input.first(4)) == "\x89PNG";
  if (is_file) {
    Read(input);
    Read(WithRightChecksums(input));
  } else {
    WriteAndReadBack(input);
  }
}

}  // namespace tamias::fuzz
