// Opens what the caller closed, and checks at the end that what was printed was taken.
#include "standard_streams.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <system_error>

#include "fail.h"

namespace tamias::cli {

void PrepareProcess() {
  // Each in the direction in which it is of no use, so that using it fails. The lowest free number
  // is taken: the one that was closed.
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(stream, F_GETFD) < 0 && errno == EBADF) {
      if (open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0) return;
    }
  }
  std::signal(SIGXFSZ, SIG_IGN);  // writing says EFBIG instead
}

bool FlushOutput(int error) {
  errno = 0;
  const bool failed_before = std::ferror(stdout) != 0;
  const bool fails_now = std::fflush(stdout) != 0;
  if (!failed_before && !fails_now) return true;
  if (error == 0) error = errno != 0 ? errno : EIO;
  if (error == EPIPE) return false;
  Fail(ErrorCode::kIo, "standard output: cannot write: {}", std::generic_category().message(error));
}

}  // namespace tamias::cli
