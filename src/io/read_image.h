// Pictures in any format that is read, recognised by their first bytes: PNG, JPEG and WebP.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "tamias/image.h"

namespace tamias {

// ReadImage, from a file, is declared in tamias/image.h; this is the same from memory, with
// `source` for the path in messages.
Image DecodeImage(std::span<const uint8_t> bytes, const std::string& source);

}  // namespace tamias
