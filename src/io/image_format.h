// The formats that pictures are written in. WriteImage, the atomic writer, and ReadImage are
// declared in tamias/image.h.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "tamias/image.h"

namespace tamias {

enum class ImageFormat { kPng, kJpeg, kWebp };

// Text by keyword, see WriteImage.
using ImageText = std::map<std::string, std::string>;

// ".jpg" of "a/b.JPG": what says a file's format.
std::string LowerExtension(const std::filesystem::path& path);

// By the extension; nothing for one that is not known.
std::optional<ImageFormat> ImageFormatOf(const std::filesystem::path& path);

// The extensions of the formats, for messages: ".png, .jpg, .jpeg or .webp".
inline constexpr const char* kImageExtensions = ".png, .jpg, .jpeg or .webp";

// Throws kInvalidArgument when a side is not in [1, max_side] or the pixels do not match the size;
// `format` begins the message.
void CheckPixels(const Image& image, int max_side, const char* format);

// The bytes of a file. Throws kInvalidArgument as WriteImage.
std::string EncodeImage(ImageFormat format, const Image& image, const ImageText& text,
                        const ImageOptions& options);

// Throws what EncodeImage would throw for a picture of this size: before there is one.
void CheckImageFile(ImageFormat format, int width, int height, const ImageText& text,
                    const ImageOptions& options);

}  // namespace tamias
