// JPEG files (ITU-T T.81): baseline, extended and progressive with 8 bits a sample, grey or colour.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "tamias/image.h"

namespace tamias {

inline constexpr int kMaxJpegSide = 32768;  // what is read again; the format ends at 65535
// That are read; FFmpeg stops a little before twice as many.
inline constexpr int64_t kMaxJpegPixels = int64_t{1} << 27;

// The bytes of a baseline JPEG, text as EXIF (see WriteImage). Throws kInvalidArgument when a side
// is not in [1, 32768], the pixels do not match the size, or the text is too long.
std::string EncodeJpeg(const Image& image, const std::map<std::string, std::string>& text,
                       int quality);

// The picture as 8-bit RGB, turned upright where EXIF or XMP say how it was held; `source` stands
// for the path in messages. Throws kInvalidFile for files that are broken, cut off or larger than
// 32768 pixels a side or max_pixels, kUnsupported for other kinds of JPEG (lossless, CMYK).
Image DecodeJpeg(std::span<const uint8_t> bytes, const std::string& source,
                 int64_t max_pixels = kMaxJpegPixels);

}  // namespace tamias
