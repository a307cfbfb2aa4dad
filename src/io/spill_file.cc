// The file is unlinked as soon as it is made, its disk space taken at once (posix_fallocate), and
// its pages given back with madvise. It lies in $TMPDIR, else in /var/tmp.
#include "io/spill_file.h"

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <string>

#include "io/system_error.h"
#include "tamias/files.h"

namespace tamias {
namespace {

// A file that is gone from the folder before anything is written, so that nothing stays behind.
int OpenWithoutName(const std::filesystem::path& folder) {
  std::string name = (folder / "tamias-state-XXXXXX").string();
  const int descriptor = mkstemp(name.data());
  if (descriptor < 0) FailSystem(folder, "create a temporary file", errno, /*reading=*/false);
  unlink(name.c_str());
  return descriptor;
}

}  // namespace

SpillFile::SpillFile(const std::filesystem::path& folder, size_t bytes)
    : size_(std::max<size_t>(bytes, 1)) {
  const int descriptor = OpenWithoutName(folder);
  int error = posix_fallocate(descriptor, 0, static_cast<off_t>(size_));
  if (error == 0) {
    void* memory = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (memory == MAP_FAILED) {
      error = errno;
    } else {
      data_ = static_cast<std::byte*>(memory);
    }
  }
  close(descriptor);
  if (error != 0) {
    FailSystem(folder,
               fmt::format("store {:.1f} GiB of state", static_cast<double>(bytes) / 0x1p30), error,
               /*reading=*/false);
  }
}

SpillFile::~SpillFile() { munmap(data_, size_); }

void ReleasePages(std::byte* memory, size_t bytes) {
  if (bytes > 0) madvise(memory, bytes, MADV_DONTNEED);
}

std::filesystem::path SpillFolder() {
  const char* folder = std::getenv("TMPDIR");
  return folder != nullptr && *folder != '\0' ? folder : "/var/tmp";
}

size_t PageBytes() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

}  // namespace tamias
