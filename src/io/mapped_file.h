// A file mapped into memory, read-only. Pages are read from disk when they are first touched.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace tamias {

class MappedFile {
 public:
  // Throws kNotFound, or kIo when the operating system refuses or the path is not a regular file.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  // Lets go of the pages that were read. What is touched again is read again, from the operating
  // system's cache while that has it. Others may be reading.
  void GiveBack() const;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace tamias
