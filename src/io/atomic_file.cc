// O_TMPFILE, fsync, linkat; over an existing file by way of a temporary name and rename.
#include "io/atomic_file.h"

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <random>

#include "base/number.h"
#include "io/system_error.h"

namespace tamias {
namespace {

[[noreturn]] void FailCreate(const std::filesystem::path& path, int error) {
  FailSystem(path, "create", error, /*reading=*/false);
}

// What a path leads to.
struct Target {
  std::filesystem::path path;  // no link
  bool is_direct = false;      // device, pipe or descriptor
  int descriptor = -1;         // one that is open already
  mode_t mode = 0;             // of an existing file, 0: none yet
};

std::filesystem::path FolderOf(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : ".";
}

Target FollowLinks(const std::filesystem::path& path) {
  constexpr int kMaxLinks = 40;  // as Linux
  Target target{path};
  for (int i = 0; i < kMaxLinks; ++i) {
    target.descriptor = DescriptorOf(target.path);
    target.is_direct = target.descriptor >= 0;
    if (target.is_direct) return target;
    struct stat status {};
    if (lstat(target.path.c_str(), &status) != 0) {
      if (errno != ENOENT) FailCreate(path, errno);
      if (!target.path.has_filename()) FailCreate(path, EISDIR);  // "folder/"
      return target;
    }
    if (S_ISLNK(status.st_mode)) {
      std::error_code error;
      const auto next = std::filesystem::read_symlink(target.path, error);
      if (error) FailCreate(path, error.value());
      target.path = next.is_absolute() ? next : FolderOf(target.path) / next;
      continue;
    }
    if (S_ISDIR(status.st_mode)) FailCreate(path, EISDIR);
    if (S_ISSOCK(status.st_mode)) FailCreate(path, EOPNOTSUPP);
    // A rename would replace what this user is not allowed to write.
    if (faccessat(AT_FDCWD, target.path.c_str(), W_OK, AT_EACCESS) != 0) FailCreate(path, errno);
    target.is_direct = !S_ISREG(status.st_mode);
    target.mode = status.st_mode & 07777;
    return target;
  }
  FailCreate(path, ELOOP);
}

// A name in the path's folder that is not taken and that no limit on names forbids.
std::string TemporaryName(const std::filesystem::path& path) {
  std::random_device random;
  return FolderOf(path) / fmt::format(".tamias-{:08x}.tmp", random());
}

std::string ProcName(int descriptor) { return fmt::format("/proc/self/fd/{}", descriptor); }

}  // namespace

int DescriptorOf(const std::filesystem::path& path) {
  if (path == "/dev/stdout") return STDOUT_FILENO;
  if (path == "/dev/stderr") return STDERR_FILENO;
  if (path.parent_path() == "/dev/fd" || path.parent_path() == "/proc/self/fd") {
    const int descriptor = ParseNumber<int>(path.filename().string()).value_or(-1);
    if (descriptor >= 0 && fcntl(descriptor, F_GETFD) >= 0) return descriptor;
  }
  return -1;
}

AtomicFile::AtomicFile(const std::filesystem::path& path, Unfinished unfinished) : name_(path) {
  const Target target = FollowLinks(path);
  path_ = target.path;
  is_direct_ = target.is_direct;
  if (target.descriptor >= 0) {
    descriptor_ = fcntl(target.descriptor, F_DUPFD_CLOEXEC, 0);
  } else if (is_direct_) {
    do {
      descriptor_ = open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    } while (descriptor_ < 0 && errno == EINTR);
  } else if (unfinished == Unfinished::kNamed || !OpenNameless()) {
    OpenNamed();
  }
  if (descriptor_ < 0) FailCreate(path, errno);
  // Whoever kept an older file from other eyes keeps this one, too.
  if (!is_direct_ && target.mode != 0) fchmod(descriptor_, target.mode);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

// False where there are no files without a name, or none that could get one later.
bool AtomicFile::OpenNameless() {
  descriptor_ = open(FolderOf(path_).c_str(), O_WRONLY | O_TMPFILE | O_CLOEXEC, 0666);
  if (descriptor_ < 0) return errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL;
  if (access(ProcName(descriptor_).c_str(), F_OK) == 0) return true;
  close(descriptor_);
  descriptor_ = -1;
  return false;
}

void AtomicFile::OpenNamed() {
  do {
    temporary_ = TemporaryName(path_);
    descriptor_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && errno == EEXIST);
  if (descriptor_ < 0) temporary_.clear();
}

void AtomicFile::Write(const void* data, size_t size) {
  const char* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = write(descriptor_, bytes, size);
    if (written < 0) {
      if (errno == EINTR) continue;
      FailSystem(name_, "write", errno, /*reading=*/false);
    }
    bytes += written;
    size -= static_cast<size_t>(written);
  }
}

void AtomicFile::GiveName() {
  if (temporary_.empty()) {
    const std::string nameless = ProcName(descriptor_);
    const auto link = [&](const std::string& name) {
      return linkat(AT_FDCWD, nameless.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0;
    };
    if (link(path_.string())) return;
    while (errno == EEXIST) {
      const std::string name = TemporaryName(path_);
      if (link(name)) {
        temporary_ = name;
        break;
      }
    }
    if (temporary_.empty()) FailCreate(name_, errno);
  }
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    FailSystem(name_, "rename to", errno, /*reading=*/false);
  }
  temporary_.clear();
}

void AtomicFile::Commit() {
  if (!is_direct_) {
    if (fsync(descriptor_) != 0) FailSystem(name_, "write", errno, /*reading=*/false);
    GiveName();
  }
  const int closed = close(descriptor_);
  descriptor_ = -1;
  if (closed != 0) FailSystem(name_, "write", errno, /*reading=*/false);
}

void CheckCanWrite(const std::filesystem::path& path) {
  const Target target = FollowLinks(path);
  if (target.descriptor >= 0) {
    const int flags = fcntl(target.descriptor, F_GETFL);
    if (flags < 0) FailCreate(path, errno);
    if ((flags & O_ACCMODE) == O_RDONLY) FailCreate(path, EBADF);
  } else if (!target.is_direct) {
    const AtomicFile file(path);
  }
}

bool IsWrittenDirectly(const std::filesystem::path& path) {
  if (DescriptorOf(path) >= 0) return true;
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  return std::filesystem::exists(status) && !std::filesystem::is_regular_file(status) &&
         !std::filesystem::is_directory(status);
}

void WriteFileAtomically(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.Write(text);
  file.Commit();
}

}  // namespace tamias
