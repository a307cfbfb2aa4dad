// A file that is written in pieces and appears under its name only when it is complete, as
// tamias/files.h describes; destruction before Commit leaves nothing.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

#include "tamias/files.h"

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

}  // namespace tamias
