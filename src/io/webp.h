// WebP files of one picture. Animated ones are films: io/video.h.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "tamias/image.h"

namespace tamias {

inline constexpr int kMaxWebpSide = 16383;
inline constexpr int64_t kMaxWebpPixels = int64_t{1} << 27;  // that are read

// The bytes of a lossy WebP, text as EXIF (see WriteImage). Throws kInvalidArgument when a side is
// not in [1, 16383], the pixels do not match the size, or the text is too long.
std::string EncodeWebpPicture(const Image& image, const std::map<std::string, std::string>& text,
                              int quality);

// The picture as 8-bit RGB without alpha, turned upright; `source` stands for the path in messages.
// Throws kInvalidFile for files that are broken, cut off, larger than max_pixels or of more pixels
// than a file of their length can be meant to hold, kUnsupported for animated ones.
Image DecodeWebp(std::span<const uint8_t> bytes, const std::string& source,
                 int64_t max_pixels = kMaxWebpPixels);

}  // namespace tamias
