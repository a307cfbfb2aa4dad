// PNG files: 8-bit RGB pixels and text chunks (the settings a picture was made with).
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace tamias {

// A keyword is 1 to 79 printable ASCII characters with single blanks inside only; the value is
// UTF-8 (iTXt when it is not plain ASCII).
struct PngText {
  std::string keyword;
  std::string value;
};

struct RgbImage {
  int64_t width = 0;
  int64_t height = 0;
  std::vector<uint8_t> pixels = {};  // [height, width, 3]
  std::vector<PngText> text = {};
};

// The bytes of a PNG file. Throws kInvalidArgument when a side is not in [1, 32768], the pixels do
// not match the size, or a text cannot be stored.
std::string EncodePng(const RgbImage& image);

// Writes atomically (a temporary name, then a rename). Throws as EncodePng, and kIo when the file
// cannot be written.
void WritePng(const std::filesystem::path& path, const RgbImage& image);

// Any PNG, converted to 8-bit RGB (alpha is dropped). Throws kNotFound, kIo, or kInvalidFile for
// files that are broken or larger than 32768 pixels a side or 2^28 pixels.
RgbImage ReadPng(const std::filesystem::path& path);
// The same from memory; `source` stands for the path in messages.
RgbImage DecodePng(std::span<const uint8_t> bytes, const std::string& source);

}  // namespace tamias
