// JPEG files (ITU-T T.81): baseline, extended and progressive with 8 bits a sample, grey or colour.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "tamias/image.h"

namespace tamias {

// The picture as 8-bit RGB, turned upright where EXIF says how it was held; `source` stands for the
// path in messages. Throws kInvalidFile for files that are broken, cut off or larger than 32768
// pixels a side or 2^27 pixels, kUnsupported for other kinds of JPEG (lossless, CMYK).
Image DecodeJpeg(std::span<const uint8_t> bytes, const std::string& source);

}  // namespace tamias
