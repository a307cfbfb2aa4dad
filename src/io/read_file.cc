// Reads a regular file in one go, refusing one that is larger than the caller expects.
#include "tamias/files.h"

#include <cerrno>
#include <fstream>

#include "base/check.h"
#include "io/system_error.h"

namespace tamias {

std::string ReadFile(const std::filesystem::path& path, size_t max_bytes) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) FailSystem(path, "open", errno, /*reading=*/true);
  std::string text;
  char buffer[1 << 16];
  errno = 0;
  while (file.read(buffer, sizeof(buffer)) || file.gcount() > 0) {
    text.append(buffer, static_cast<size_t>(file.gcount()));
    if (text.size() > max_bytes) {
      Fail(ErrorCode::kInvalidFile, "{}: larger than {} bytes", path.string(), max_bytes);
    }
  }
  if (file.bad()) FailSystem(path, "read", errno, /*reading=*/true);
  return text;
}

}  // namespace tamias
