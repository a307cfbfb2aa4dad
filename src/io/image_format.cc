// One table of extensions; PNG, JPEG and WebP are encoded by their libraries.
#include "io/image_format.h"

#include <algorithm>
#include <cctype>

#include "base/check.h"
#include "io/atomic_file.h"
#include "io/jpeg.h"
#include "io/png.h"
#include "io/webp.h"

namespace tamias {
namespace {

void CheckQuality(const ImageOptions& options) {
  if (options.quality < 1 || options.quality > 100) {
    Fail(ErrorCode::kInvalidArgument, "quality: expected a whole number from 1 to 100, found {}",
         options.quality);
  }
}

}  // namespace

std::string LowerExtension(const std::filesystem::path& path) {
  std::string extension = path.extension().string();
  std::ranges::transform(extension, extension.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension;
}

std::optional<ImageFormat> ImageFormatOf(const std::filesystem::path& path) {
  const std::string extension = LowerExtension(path);
  if (extension == ".png") return ImageFormat::kPng;
  if (extension == ".jpg" || extension == ".jpeg") return ImageFormat::kJpeg;
  if (extension == ".webp") return ImageFormat::kWebp;
  return std::nullopt;
}

std::string EncodeImage(ImageFormat format, const Image& image, const ImageText& text,
                        const ImageOptions& options) {
  CheckQuality(options);
  switch (format) {
    case ImageFormat::kPng:
      return EncodePng(image, text);
    case ImageFormat::kJpeg:
      return EncodeJpeg(image, text, options.quality);
    case ImageFormat::kWebp:
      return EncodeWebpPicture(image, text, options.quality);
  }
  Fail(ErrorCode::kInternal, "image: unknown format");
}

void CheckImageFile(ImageFormat format, int width, int height, const ImageText& text,
                    const ImageOptions& options) {
  const auto check_side = [&](int side, int limit, const char* name) {
    if (side >= 1 && side <= limit) return;
    Fail(ErrorCode::kInvalidArgument, "{}: picture of {}x{} pixels: sides must be 1 to {}", name,
         width, height, limit);
  };
  for (const int side : {width, height}) {
    if (format == ImageFormat::kPng) check_side(side, kMaxPngSide, "png");
    if (format == ImageFormat::kJpeg) check_side(side, kMaxJpegSide, "jpeg");
    if (format == ImageFormat::kWebp) check_side(side, kMaxWebpSide, "webp");
  }
  EncodeImage(format, {1, 1, {0, 0, 0}}, text, options);  // for the text and the options
}

void CheckPixels(const Image& image, int max_side, const char* format) {
  if (image.width < 1 || image.height < 1 || image.width > max_side || image.height > max_side) {
    Fail(ErrorCode::kInvalidArgument, "{}: picture of {}x{} pixels: sides must be 1 to {}", format,
         image.width, image.height, max_side);
  }
  const size_t size = static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * 3;
  if (image.rgb.size() != size) {
    Fail(ErrorCode::kInvalidArgument, "{}: picture of {}x{} pixels: expected {} bytes, found {}",
         format, image.width, image.height, size, image.rgb.size());
  }
}

bool IsImagePath(const std::filesystem::path& path) { return ImageFormatOf(path).has_value(); }

void WriteImage(const std::filesystem::path& path, const Image& image, const ImageText& text,
                const ImageOptions& options) {
  const std::optional<ImageFormat> format = ImageFormatOf(path);
  if (!format) {
    Fail(ErrorCode::kInvalidArgument, "{}: expected a picture's extension: {}", path.string(),
         kImageExtensions);
  }
  WriteFileAtomically(path, EncodeImage(*format, image, text, options));
}

}  // namespace tamias
