// A picture in memory and as a file, and the two standard measures of how alike two pictures
// are.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace tamias {

struct Image {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> rgb;  // height * width * 3, rows from the top, 0 to 255
};

// Writes an 8-bit RGB PNG with text chunks by keyword, complete or not at all. Throws
// kInvalidArgument when a side is not in [1, 32768], the pixels do not match the size or a text
// cannot be stored, kIo when the file cannot be written.
void WritePng(const std::filesystem::path& path, const Image& image,
              const std::map<std::string, std::string>& text = {});

// The formats that pictures are written in.
enum class ImageFormat { kPng, kJpeg, kWebp };

// By the extension, in any case; nothing for one that is not known.
std::optional<ImageFormat> ImageFormatOf(const std::filesystem::path& path);
// The extensions that are known, for messages.
inline constexpr const char* kImageExtensions = ".png, .jpg, .jpeg or .webp";

struct ImageOptions {
  int quality = 90;  // of JPEG and WebP, 1 to 100; from 90 on a JPEG keeps colours at full size
};

// Writes a picture, complete or not at all, in the format that the extension names (in any case):
//   .png         as WritePng
//   .jpg, .jpeg  JPEG
//   .webp        WebP, lossy, at most 16383 pixels a side
// JPEG and WebP hold text as EXIF: "Description" as ImageDescription, "Software", and "tamias" as
// UserComment; other keywords are left out. Throws kInvalidArgument for another extension, a
// quality that is not 1 to 100, text of more than 60000 bytes in EXIF, and as WritePng; kIo when
// the file cannot be written.
void WriteImage(const std::filesystem::path& path, const Image& image,
                const std::map<std::string, std::string>& text = {},
                const ImageOptions& options = {});

// The bytes of such a file. Throws kInvalidArgument as WriteImage.
std::string EncodeImage(ImageFormat format, const Image& image,
                        const std::map<std::string, std::string>& text = {},
                        const ImageOptions& options = {});

// Throws what EncodeImage would throw for a picture of this size: before there is one.
void CheckImageFile(ImageFormat format, int width, int height,
                    const std::map<std::string, std::string>& text = {},
                    const ImageOptions& options = {});

// Whether WriteImage knows the extension.
bool IsImagePath(const std::filesystem::path& path);

// Reads a PNG, a JPEG (baseline or progressive) or a WebP (one picture), told apart by their first
// bytes, as 8-bit RGB: alpha is dropped, and the picture is turned upright as EXIF or XMP in the
// file say. Throws kNotFound, kIo, kInvalidFile for files that are none of them, broken, cut off or
// larger than 32768 pixels a side or 2^28 pixels (JPEG and WebP: 2^27), kUnsupported for other
// kinds of JPEG (lossless, CMYK) and for animated WebP.
Image ReadImage(const std::filesystem::path& path);
// The same from memory; `source` stands for the path in messages. max_pixels above 0: larger ones
// are refused as well, before memory is taken for their pixels.
Image DecodeImage(std::span<const uint8_t> bytes, const std::string& source,
                  int64_t max_pixels = 0);

// Peak signal-to-noise ratio in dB over all channels, peak 255; infinity for equal pictures.
// Throws kInvalidArgument when the sizes differ.
double Psnr(const Image& a, const Image& b);

// Structural similarity (Wang et al. 2004) of the luma, Gaussian window of 11 pixels (sigma 1.5),
// mean over all windows that lie inside: -1 to 1, 1 for equal pictures. Pictures need 11 pixels a
// side.
double Ssim(const Image& a, const Image& b);

}  // namespace tamias
