// WebP through libwebp; its container, which holds EXIF and XMP, through libwebpmux.
#include "io/webp.h"

#include <webp/decode.h>
#include <webp/encode.h>
#include <webp/mux.h>

#include <memory>
#include <string_view>

#include "base/check.h"
#include "io/exif.h"
#include "io/image_format.h"

namespace tamias {
namespace {

// A file of one colour needs no bits for its pixels. A large one of so few bytes is an attempt to
// take memory.
constexpr int64_t kAlwaysAllowedPixels = int64_t{1} << 22;
constexpr int64_t kMaxPixelsPerByte = 4096;

struct Free {
  void operator()(WebPMux* mux) const { WebPMuxDelete(mux); }
};

[[noreturn]] void FailWebp(const std::string& source, std::string_view problem) {
  Fail(ErrorCode::kInvalidFile, "{}: not a readable WebP: {}", source, problem);
}

[[noreturn]] void FailEncode(int error) {
  const bool no_memory =
      error == VP8_ENC_ERROR_OUT_OF_MEMORY || error == VP8_ENC_ERROR_BITSTREAM_OUT_OF_MEMORY;
  Fail(no_memory ? ErrorCode::kOutOfMemory : ErrorCode::kInternal,
       "webp: cannot encode the picture (libwebp's error {})", error);
}

// The picture alone, without a container for more.
std::string EncodePixels(const Image& image, int quality) {
  WebPConfig config;
  WebPPicture picture;
  if (!WebPConfigPreset(&config, WEBP_PRESET_DEFAULT, static_cast<float>(quality)) ||
      !WebPPictureInit(&picture)) {
    Fail(ErrorCode::kInternal, "webp: another version of libwebp than this was built for");
  }
  config.use_sharp_yuv = 1;  // halves the colours' resolution with care for edges
  picture.width = image.width;
  picture.height = image.height;
  WebPMemoryWriter writer;
  WebPMemoryWriterInit(&writer);
  picture.writer = WebPMemoryWrite;
  picture.custom_ptr = &writer;
  const bool is_done = WebPPictureImportRGB(&picture, image.rgb.data(), image.width * 3) != 0 &&
                       WebPEncode(&config, &picture) != 0;
  const int error = picture.error_code;
  WebPPictureFree(&picture);
  std::string bytes;
  if (is_done) bytes.assign(reinterpret_cast<const char*>(writer.mem), writer.size);
  WebPMemoryWriterClear(&writer);
  if (!is_done) FailEncode(error);
  return bytes;
}

WebPData View(std::string_view bytes) {
  return {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
}

std::string WithExif(const std::string& bytes, std::string_view exif) {
  exif.remove_prefix(6);  // "Exif" and two NULs belong to JPEG
  const WebPData picture = View(bytes), chunk = View(exif);
  const std::unique_ptr<WebPMux, Free> mux(WebPMuxNew());
  WebPData whole{};
  if (mux == nullptr || WebPMuxSetImage(mux.get(), &picture, 0) != WEBP_MUX_OK ||
      WebPMuxSetChunk(mux.get(), "EXIF", &chunk, 0) != WEBP_MUX_OK ||
      WebPMuxAssemble(mux.get(), &whole) != WEBP_MUX_OK) {
    Fail(ErrorCode::kOutOfMemory, "webp: no memory for the file");
  }
  std::string result(reinterpret_cast<const char*>(whole.bytes), whole.size);
  WebPDataClear(&whole);
  return result;
}

// "RIFF", the length of what follows (little-endian), "WEBP".
void CheckLength(std::span<const uint8_t> bytes, const std::string& source) {
  constexpr size_t kFrame = 8, kHeader = 12;
  if (bytes.size() < kHeader) FailWebp(source, "cut off");
  size_t length = 0;
  for (size_t i = 0; i < 4; ++i) length |= size_t{bytes[4 + i]} << (8 * i);
  if (length > bytes.size() - kFrame) FailWebp(source, "cut off");
}

int ReadOrientation(std::span<const uint8_t> bytes) {
  const WebPData file{bytes.data(), bytes.size()};
  const std::unique_ptr<WebPMux, Free> mux(WebPMuxCreate(&file, /*copy_data=*/0));
  if (mux == nullptr) return 1;
  WebPData exif{}, xmp{};
  WebPMuxGetChunk(mux.get(), "EXIF", &exif);
  WebPMuxGetChunk(mux.get(), "XMP ", &xmp);
  return OrientationOf({exif.bytes, exif.size},
                       {reinterpret_cast<const char*>(xmp.bytes), xmp.size});
}

}  // namespace

std::string EncodeWebpPicture(const Image& image, const std::map<std::string, std::string>& text,
                              int quality) {
  CheckPixels(image, kMaxWebpSide, "webp");
  const std::string exif = EncodeExif(text);
  const std::string bytes = EncodePixels(image, quality);
  return exif.empty() ? bytes : WithExif(bytes, exif);
}

Image DecodeWebp(std::span<const uint8_t> bytes, const std::string& source, int64_t max_pixels) {
  CheckLength(bytes, source);
  WebPBitstreamFeatures features;
  const VP8StatusCode status = WebPGetFeatures(bytes.data(), bytes.size(), &features);
  if (status != VP8_STATUS_OK) {
    FailWebp(source, status == VP8_STATUS_NOT_ENOUGH_DATA ? "cut off" : "broken");
  }
  if (features.has_animation) {
    Fail(ErrorCode::kUnsupported, "{}: an animated WebP: expected one picture", source);
  }
  Image image{features.width, features.height, {}};
  const int64_t pixels = int64_t{image.width} * image.height;
  if (pixels > max_pixels) {
    Fail(ErrorCode::kInvalidFile, "{}: {}x{} pixels are more than the limit of {}", source,
         image.width, image.height, max_pixels);
  }
  if (pixels > kAlwaysAllowedPixels &&
      pixels / kMaxPixelsPerByte > static_cast<int64_t>(bytes.size())) {
    FailWebp(source, "cut off");
  }
  image.rgb.resize(static_cast<size_t>(pixels) * 3);
  if (WebPDecodeRGBInto(bytes.data(), bytes.size(), image.rgb.data(), image.rgb.size(),
                        image.width * 3) == nullptr) {
    FailWebp(source, "broken or cut off");
  }
  return TurnUpright(std::move(image), ReadOrientation(bytes));
}

}  // namespace tamias
