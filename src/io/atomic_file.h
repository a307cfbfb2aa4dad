// Output that appears under its name only when it is complete. Until Commit the bytes lie in a file
// without a name in the target's folder, of which nothing is left however the process ends; where
// the file system has no such files, under a short temporary name, which destruction removes. Links
// are followed and kept. Devices, pipes and open descriptors (/dev/stdout, /dev/fd/3) are written
// directly.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace tamias {

class AtomicFile {
 public:
  // How the bytes are kept until Commit; kNamed is what file systems without O_TMPFILE get.
  enum class Unfinished { kNameless, kNamed };

  // Throws kIo, "path: cannot create: <reason>", also for folders and for files that this user may
  // not write. Opening a named pipe waits for its reader.
  explicit AtomicFile(const std::filesystem::path& path,
                      Unfinished unfinished = Unfinished::kNameless);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Throws kIo, "path: cannot write: No space left on device".
  void Write(const void* data, size_t size);
  void Write(std::string_view text) { Write(text.data(), text.size()); }
  // Flushes to disk and gives the file its name. Throws kIo.
  void Commit();

 private:
  bool OpenNameless();
  void OpenNamed();
  void GiveName();

  std::filesystem::path name_;  // as it was given, for messages
  std::filesystem::path path_;  // links followed
  std::string temporary_;       // a name to remove; empty: none
  bool is_direct_ = false;
  int descriptor_ = -1;
};

// Throws as the constructor of AtomicFile, without opening what a probe would disturb: a pipe's
// reader would take a writer that comes and goes for the end.
void CheckCanWrite(const std::filesystem::path& path);

// Whether the path names something that is written directly: a device, a pipe, an open descriptor.
bool IsWrittenDirectly(const std::filesystem::path& path);

// The open descriptor that a path like /dev/stdout names, -1 for others.
int DescriptorOf(const std::filesystem::path& path);

// The whole text in one call.
void WriteFileAtomically(const std::filesystem::path& path, std::string_view text);

}  // namespace tamias
