// How much of mapped files is in memory.
#pragma once

#include <cctype>
#include <filesystem>
#include <fstream>
#include <string>

namespace tamias {

// Of the files below a folder, what of their mappings is in memory, in bytes.
inline size_t ResidentBytes(const std::filesystem::path& folder) {
  const std::string prefix = std::filesystem::canonical(folder).string() + "/";
  std::ifstream maps("/proc/self/smaps");
  size_t bytes = 0;
  bool is_below = false;
  for (std::string line; std::getline(maps, line);) {
    if (std::isupper(static_cast<unsigned char>(line[0])) == 0) {  // of the next mapping
      is_below = line.find(prefix) != line.npos;
    } else if (line.starts_with("Rss:") && is_below) {
      bytes += std::stoul(line.substr(4)) * 1024;
    }
  }
  return bytes;
}

}  // namespace tamias
