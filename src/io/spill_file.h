// Memory that need not fit the machine: a temporary file without a name, mapped shared, whose pages
// the system writes to disk and reads back as they are touched.
#pragma once

#include <cstddef>
#include <filesystem>

namespace tamias {

class SpillFile {
 public:
  // Zeroed. The disk space is taken at once. Throws kIo, naming the folder, when there is none.
  SpillFile(const std::filesystem::path& folder, size_t bytes);
  ~SpillFile();
  SpillFile(const SpillFile&) = delete;
  SpillFile& operator=(const SpillFile&) = delete;

  std::byte* data() const { return data_; }  // page-aligned
  size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// Takes pages of a SpillFile out of this process's memory until they are touched again; their
// contents stay. `memory` is page-aligned.
void ReleasePages(std::byte* memory, size_t bytes);

size_t PageBytes();

}  // namespace tamias
