// Pictures in any format that is read, recognised by their first bytes: PNG, JPEG and WebP.
#include <algorithm>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "io/exif.h"
#include "io/jpeg.h"
#include "io/model_file.h"
#include "io/png.h"
#include "io/webp.h"
#include "tamias/files.h"
#include "tamias/image.h"

namespace tamias {

Image DecodeImage(std::span<const uint8_t> bytes, const std::string& source, int64_t max_pixels) {
  const auto limit = [&](int64_t of_format) {
    return max_pixels > 0 ? std::min(max_pixels, of_format) : of_format;
  };
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.starts_with("\x89PNG")) {
    PngPicture picture = DecodePng(bytes, source, limit(kMaxPngPixels));
    return TurnUpright(std::move(picture.image), picture.orientation);
  }
  if (text.starts_with("\xFF\xD8\xFF")) return DecodeJpeg(bytes, source, limit(kMaxJpegPixels));
  if (text.starts_with("RIFF") && text.substr(0, 12).ends_with("WEBP")) {
    return DecodeWebp(bytes, source, limit(kMaxWebpPixels));
  }
  const std::string content = text.empty() ? "an empty file" : DescribeForeignContent(text);
  Fail(ErrorCode::kInvalidFile, "{}: neither PNG, JPEG nor WebP{}", source,
       content.empty() ? "" : ", but " + content);
}

Image ReadImage(const std::filesystem::path& path) {
  constexpr size_t kMaxFileBytes = size_t{1} << 30;
  const std::string bytes = ReadFile(path, kMaxFileBytes);
  return DecodeImage({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, path.string());
}

}  // namespace tamias
