// In the handler nothing but write and _exit, which may be called there.
#include "bus_error.h"

#include <unistd.h>

#include <csignal>
#include <cstring>

namespace tamias::cli {
namespace {

constexpr char kMessage[] =
    "tamias: error: a file of the model (or state in the temporary folder) was cut off or "
    "replaced while it was read (SIGBUS)\n";

void Explain(int) {
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kMessage, std::strlen(kMessage));
  _exit(1);
}

}  // namespace

void ExplainBusErrors() { std::signal(SIGBUS, Explain); }

}  // namespace tamias::cli
