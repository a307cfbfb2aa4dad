// What EXIF (and XMP) in a picture file tell: how the camera was held when reading, what the
// picture was made with when writing.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "tamias/image.h"

namespace tamias {

// EXIF of "Description" (ImageDescription), "Software" and "tamias" (UserComment: ASCII, else
// UTF-16) of the text, as JPEG holds it: "Exif", two NULs, a TIFF structure. "" when there is none
// of them. Values are valid UTF-8. Throws kInvalidArgument above 60000 bytes: a JPEG segment has
// 65533.
std::string EncodeExif(const std::map<std::string, std::string>& text);

// The orientation (1 to 8 as EXIF counts) that EXIF, with or without "Exif", tells, or nothing.
std::optional<int> ExifOrientation(std::span<const uint8_t> exif);
// That of EXIF, else of XMP ("tiff:Orientation"), else 1.
int OrientationOf(std::span<const uint8_t> exif, std::string_view xmp);

// The picture as a viewer shows it: 2 to 8 are mirrored or turned by quarters, all else stays.
Image TurnUpright(Image image, int orientation);

}  // namespace tamias
