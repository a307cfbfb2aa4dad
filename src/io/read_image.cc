// Reads pictures: see the header.
#include "io/read_image.h"

#include <string_view>

#include "base/check.h"
#include "io/jpeg.h"
#include "io/png.h"
#include "io/read_file.h"

namespace tamias {

Image DecodeImage(std::span<const uint8_t> bytes, const std::string& source) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.starts_with("\x89PNG")) return DecodePng(bytes, source).image;
  if (text.starts_with("\xFF\xD8\xFF")) return DecodeJpeg(bytes, source);
  Fail(ErrorCode::kInvalidFile, "{}: neither PNG nor JPEG", source);
}

Image ReadImage(const std::filesystem::path& path) {
  constexpr size_t kMaxFileBytes = size_t{1} << 30;
  const std::string bytes = ReadFile(path, kMaxFileBytes);
  return DecodeImage({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, path.string());
}

}  // namespace tamias
