// Work without the interpreter's lock, which the interpreter waits for before it ends: a thread
// that came back to one that is gone would end the process.
#pragma once

#include <nanobind/nanobind.h>

namespace tamias::python {

// Counts the work that runs without the lock.
class CountedWork {
 public:
  // Throws kCancelled when the interpreter is ending.
  CountedWork();
  ~CountedWork();
  CountedWork(const CountedWork&) = delete;
  CountedWork& operator=(const CountedWork&) = delete;
};

// As nanobind::gil_scoped_release; for call_guard and for blocks.
class Released {
 private:
  CountedWork counted_;  // ends when the lock is held again
  nanobind::gil_scoped_release released_;
};

// Whether the interpreter is ending: what runs should stop soon, without asking for the lock.
bool IsEnding();

// Waits, at the end of the interpreter, for work of other threads: generations stop at their next
// step.
void BindEnding(nanobind::module_& module);

}  // namespace tamias::python
