// Where results go: names for several of them, checks before the work begins, frames as PNG files.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>

#include "tamias/pipeline.h"

namespace tamias::cli {

// picture.png for one result; picture-1.png, picture-2.png, ... for several.
std::filesystem::path NumberedPath(const std::filesystem::path& path, size_t index, size_t count);

// Throws when a file cannot be created there: an hour of work must not end at such a path. An empty
// path is one that nobody asked for.
void CheckWritable(const std::filesystem::path& path);

void CreateFolder(const std::filesystem::path& folder);

// folder/frame-0001.png, folder/frame-0002.png, ...
void WriteFrames(const std::filesystem::path& folder, const Video& video,
                 const std::map<std::string, std::string>& text);

}  // namespace tamias::cli
