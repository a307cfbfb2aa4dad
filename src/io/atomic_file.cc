// Temporary name in the target's folder, fsync, rename.
#include "io/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <random>

#include "io/system_error.h"

namespace tamias {
namespace {

// True for devices, pipes and sockets: a rename would replace them by a file.
bool IsSpecialFile(const std::filesystem::path& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode);
}

}  // namespace

AtomicFile::AtomicFile(const std::filesystem::path& path) : path_(path) {
  if (std::error_code error; std::filesystem::is_directory(path, error)) {
    FailSystem(path, "create", EISDIR, /*reading=*/false);
  }
  if (IsSpecialFile(path)) {
    descriptor_ = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  } else {
    // A link is followed, so that its target is replaced and not the link.
    if (std::error_code error; std::filesystem::is_symlink(path, error)) {
      path_ = std::filesystem::weakly_canonical(path, error);
      if (error) path_ = path;
    }
    std::random_device random;
    do {
      temporary_ = fmt::format("{}.{:08x}.tmp", path_.string(), random());
      descriptor_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (descriptor_ < 0 && errno == EEXIST);
  }
  if (descriptor_ < 0) FailSystem(path, "create", errno, /*reading=*/false);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void AtomicFile::Write(const void* data, size_t size) {
  const char* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = write(descriptor_, bytes, size);
    if (written < 0) {
      if (errno == EINTR) continue;
      FailSystem(path_, "write", errno, /*reading=*/false);
    }
    bytes += written;
    size -= static_cast<size_t>(written);
  }
}

void AtomicFile::Commit() {
  if (!temporary_.empty() && fsync(descriptor_) != 0) {
    FailSystem(path_, "write", errno, /*reading=*/false);
  }
  const int closed = close(descriptor_);
  descriptor_ = -1;
  if (closed != 0) FailSystem(path_, "write", errno, /*reading=*/false);
  if (temporary_.empty()) return;
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    FailSystem(path_, "rename to", errno, /*reading=*/false);
  }
  temporary_.clear();
}

void WriteFileAtomically(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.Write(text);
  file.Commit();
}

}  // namespace tamias
