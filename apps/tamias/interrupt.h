// What Ctrl-C, SIGTERM and SIGHUP do. Usually they end the program at once, as they would without
// us. While something runs that should end in good order they are remembered; a second one ends the
// program all the same. A signal that the parent ignores (nohup) stays ignored.
#pragma once

#include <csignal>

#include <array>

namespace tamias::cli {

// While it lives, signals are remembered: what runs asks Interrupted().
class RememberSignals {
 public:
  RememberSignals();
  ~RememberSignals();
  RememberSignals(const RememberSignals&) = delete;
  RememberSignals& operator=(const RememberSignals&) = delete;

 private:
  std::array<struct sigaction, 3> before_{};
};

// While it lives, also within RememberSignals, signals end the program at once, for work that
// cannot ask and leaves nothing behind. Throws kCancelled when there was a signal before.
class EndAtSignals {
 public:
  EndAtSignals();
  ~EndAtSignals();
  EndAtSignals(const EndAtSignals&) = delete;
  EndAtSignals& operator=(const EndAtSignals&) = delete;

 private:
  std::array<struct sigaction, 3> before_{};
};

bool Interrupted();

// Throws kCancelled when there was a signal.
void CheckInterrupted();

}  // namespace tamias::cli
