// A whole small file as a string.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

namespace tamias {

// Throws kNotFound, kIo, or kInvalidFile when the file is larger than max_bytes.
std::string ReadFile(const std::filesystem::path& path, size_t max_bytes);

}  // namespace tamias
