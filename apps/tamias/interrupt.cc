// The first signal sets a flag that the progress callback reads between steps, and gives the signal
// back to the system, so that a second one ends the program.
#include "interrupt.h"

#include <atomic>
#include <csignal>

namespace tamias::cli {
namespace {

std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free,
              "the signal handler may only touch lock-free atomics");

void HandleSignal(int signal) {
  interrupted = true;
  std::signal(signal, SIG_DFL);
}

}  // namespace

void InstallInterruptHandler() {
  std::signal(SIGINT, HandleSignal);
  std::signal(SIGTERM, HandleSignal);
}

bool Interrupted() { return interrupted; }

}  // namespace tamias::cli
