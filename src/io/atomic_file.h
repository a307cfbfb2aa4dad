// Output that appears under its name only when it is complete: bytes go to a temporary name in the
// same folder, Commit renames it, destruction without Commit removes it. A path that names a device
// or a pipe (/dev/stdout) is written directly.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace tamias {

class AtomicFile {
 public:
  // Throws kIo, "path: cannot create: <reason>".
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Throws kIo, "path: cannot write: No space left on device".
  void Write(const void* data, size_t size);
  void Write(std::string_view text) { Write(text.data(), text.size()); }
  // Flushes to disk and renames. Throws kIo.
  void Commit();

 private:
  std::filesystem::path path_;
  std::string temporary_;  // empty: written directly
  int descriptor_ = -1;
};

// The whole text in one call.
void WriteFileAtomically(const std::filesystem::path& path, std::string_view text);

}  // namespace tamias
