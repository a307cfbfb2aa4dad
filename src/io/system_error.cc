// Messages from errno values.
#include "io/system_error.h"

#include "base/check.h"

#include <cerrno>
#include <system_error>

namespace tamias {

void FailSystem(const std::filesystem::path& path, std::string_view what, int error, bool reading) {
  const bool missing = reading && (error == ENOENT || error == ENOTDIR);
  std::error_code ignored;
  if (missing && std::filesystem::is_symlink(path, ignored)) {
    Fail(ErrorCode::kNotFound, "{}: cannot {}: a link to {}, which is not there", path.string(),
         what, std::filesystem::read_symlink(path, ignored).string());
  }
  Fail(missing ? ErrorCode::kNotFound : ErrorCode::kIo, "{}: cannot {}: {}", path.string(), what,
       std::generic_category().message(error));
}

}  // namespace tamias
