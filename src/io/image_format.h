// What the encoders of the formats in tamias/image.h share.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "tamias/image.h"

namespace tamias {

// Text by keyword, see WriteImage.
using ImageText = std::map<std::string, std::string>;

// ".jpg" of "a/b.JPG": what says a file's format.
std::string LowerExtension(const std::filesystem::path& path);

// Throws kInvalidArgument when a side is not in [1, max_side] or the pixels do not match the size;
// `format` begins the message.
void CheckPixels(const Image& image, int max_side, const char* format);

}  // namespace tamias
