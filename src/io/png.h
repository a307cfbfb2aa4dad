// PNG files: 8-bit RGB pixels and text chunks (the settings a picture was made with).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>

#include "tamias/image.h"

namespace tamias {

// Text chunks by keyword. A keyword is 1 to 79 printable ASCII characters with single blanks inside
// only; the value is UTF-8 (iTXt when it is not plain ASCII).
using PngText = std::map<std::string, std::string>;

struct PngPicture {
  Image image;          // as it is stored
  PngText text;         // of equal keywords in a file the last counts
  int orientation = 1;  // as EXIF counts: of the eXIf chunk, else of text that holds EXIF or XMP
};

inline constexpr int kMaxPngSide = 32768;
inline constexpr int64_t kMaxPngPixels = int64_t{1} << 28;  // that are read

// The bytes of a PNG file. Throws kInvalidArgument when a side is not in [1, 32768], the pixels do
// not match the size, or a text cannot be stored.
std::string EncodePng(const Image& image, const PngText& text = {});

// WritePng, the atomic writer, is declared in tamias/image.h.

// Any PNG, converted to 8-bit RGB (alpha is dropped). Throws kNotFound, kIo, or kInvalidFile for
// files that are broken or larger than 32768 pixels a side or max_pixels.
PngPicture ReadPng(const std::filesystem::path& path);
// The same from memory; `source` stands for the path in messages.
PngPicture DecodePng(std::span<const uint8_t> bytes, const std::string& source,
                     int64_t max_pixels = kMaxPngPixels);

}  // namespace tamias
