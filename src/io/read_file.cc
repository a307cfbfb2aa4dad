// Reads a file in one go, refusing one that is larger than the caller expects. A pipe is read as
// far as somebody writes to it, and not waited for.
#include "tamias/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/check.h"
#include "io/system_error.h"

namespace tamias {
namespace {

struct Descriptor {
  explicit Descriptor(int opened) : number(opened) {}
  ~Descriptor() {
    if (number >= 0) close(number);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int number;
};

}  // namespace

std::string ReadFile(const std::filesystem::path& path, size_t max_bytes) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.number < 0) FailSystem(path, "open", errno, /*reading=*/true);
  fcntl(file.number, F_SETFL, 0);  // only opening did not wait
  std::string text;
  char buffer[1 << 16];
  while (true) {
    const ssize_t count = read(file.number, buffer, sizeof(buffer));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) FailSystem(path, "read", errno, /*reading=*/true);
    if (count == 0) return text;
    text.append(buffer, static_cast<size_t>(count));
    if (text.size() > max_bytes) {
      Fail(ErrorCode::kInvalidFile, "{}: larger than {} bytes", path.string(), max_bytes);
    }
  }
}

}  // namespace tamias
