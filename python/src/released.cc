// One count for the process, as there is one interpreter.
#include "released.h"

#include <condition_variable>
#include <mutex>

#include "tamias/error.h"

namespace tamias::python {
namespace {

struct Ending {
  std::mutex mutex;
  std::condition_variable changed;
  int running = 0;
  bool is_ending = false;
};

// Never destroyed: threads may outlive everything else.
Ending& TheEnding() {
  static auto& ending = *new Ending;
  return ending;
}

}  // namespace

CountedWork::CountedWork() {
  Ending& ending = TheEnding();
  const std::lock_guard lock(ending.mutex);
  if (ending.is_ending) throw Error(ErrorCode::kCancelled, "the interpreter is ending");
  ++ending.running;
}

CountedWork::~CountedWork() {
  Ending& ending = TheEnding();
  const std::lock_guard lock(ending.mutex);
  --ending.running;
  ending.changed.notify_all();
}

bool IsEnding() {
  Ending& ending = TheEnding();
  const std::lock_guard lock(ending.mutex);
  return ending.is_ending;
}

void BindEnding(nanobind::module_& module) {
  module.def("_wait_for_threads", [] {
    Ending& ending = TheEnding();
    const nanobind::gil_scoped_release released;  // those that run need it to end
    std::unique_lock lock(ending.mutex);
    ending.is_ending = true;
    ending.changed.wait(lock, [&] { return ending.running == 0; });
  });
  nanobind::module_::import_("atexit").attr("register")(module.attr("_wait_for_threads"));
}

}  // namespace tamias::python
