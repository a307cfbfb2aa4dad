// The first signal sets a flag that the progress callback reads between steps, and gives the signal
// back to the system, so that a second one ends the program.
#include "interrupt.h"

#include <atomic>

#include "fail.h"

namespace tamias::cli {
namespace {

constexpr std::array<int, 3> kSignals = {SIGINT, SIGTERM, SIGHUP};

std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free,
              "the signal handler may only touch lock-free atomics");

void Remember(int signal) {
  interrupted = true;
  std::signal(signal, SIG_DFL);
}

// Signals that the parent ignores stay so. Returns what was in force.
std::array<struct sigaction, 3> Install(void (*handler)(int)) {
  std::array<struct sigaction, 3> before{};
  for (size_t i = 0; i < kSignals.size(); ++i) {
    sigaction(kSignals[i], nullptr, &before[i]);
    if (before[i].sa_handler != SIG_IGN) std::signal(kSignals[i], handler);
  }
  return before;
}

void Restore(const std::array<struct sigaction, 3>& before) {
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before[i], nullptr);
}

}  // namespace

RememberSignals::RememberSignals() : before_(Install(Remember)) {}
RememberSignals::~RememberSignals() { Restore(before_); }

EndAtSignals::EndAtSignals() : before_(Install(SIG_DFL)) {
  if (!interrupted) return;
  Restore(before_);
  CheckInterrupted();
}
EndAtSignals::~EndAtSignals() { Restore(before_); }

bool Interrupted() { return interrupted; }

void CheckInterrupted() {
  if (interrupted) Fail(ErrorCode::kCancelled, "interrupted");
}

}  // namespace tamias::cli
