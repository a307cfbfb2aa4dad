// JPEG files written by TurboJPEG. Colours have the full size from quality 90 on, half of it in
// both directions below, as cameras and other programs do.
#include <turbojpeg.h>

#include <memory>

#include "base/check.h"
#include "io/exif.h"
#include "io/image_format.h"
#include "io/jpeg.h"

namespace tamias {
namespace {

constexpr int kFullColorQuality = 90;

struct Free {
  void operator()(void* compressor) const { tjDestroy(compressor); }
  void operator()(unsigned char* bytes) const { tjFree(bytes); }
};

// The segment (marker, big-endian length that counts itself, data) behind the start of the image
// and the JFIF header.
void InsertExif(std::string& bytes, const std::string& exif) {
  const auto byte = [](size_t value) { return static_cast<char>(value & 0xFF); };
  const auto header_length =
      static_cast<size_t>(static_cast<uint8_t>(bytes[4])) << 8 | static_cast<uint8_t>(bytes[5]);
  const size_t length = exif.size() + 2;
  bytes.insert(4 + header_length,
               std::string{byte(0xFF), byte(0xE1), byte(length >> 8), byte(length)} + exif);
}

}  // namespace

std::string EncodeJpeg(const Image& image, const std::map<std::string, std::string>& text,
                       int quality) {
  CheckPixels(image, kMaxJpegSide, "jpeg");
  const std::string exif = EncodeExif(text);
  const std::unique_ptr<void, Free> compressor(tjInitCompress());
  if (compressor == nullptr) Fail(ErrorCode::kOutOfMemory, "jpeg: no memory for the encoder");
  unsigned char* compressed = nullptr;
  unsigned long size = 0;  // NOLINT: TurboJPEG's type
  const int result = tjCompress2(compressor.get(), image.rgb.data(), image.width, /*pitch=*/0,
                                 image.height, TJPF_RGB, &compressed, &size,
                                 quality >= kFullColorQuality ? TJSAMP_444 : TJSAMP_420, quality,
                                 TJFLAG_ACCURATEDCT);
  const std::unique_ptr<unsigned char, Free> owned(compressed);
  if (result != 0) {
    Fail(ErrorCode::kInternal, "jpeg: cannot encode the picture: {}",
         tjGetErrorStr2(compressor.get()));
  }
  std::string bytes(reinterpret_cast<const char*>(compressed), size);
  TAMIAS_CHECK(bytes.size() > 6 && static_cast<uint8_t>(bytes[3]) == 0xE0);  // JFIF
  if (!exif.empty()) InsertExif(bytes, exif);
  return bytes;
}

}  // namespace tamias
