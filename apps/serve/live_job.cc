// One lock for record, progress and events; whoever waits is woken by each event.
#include "live_job.h"

#include <algorithm>
#include <utility>

namespace tamias::serve {

Job LiveJob::job() const {
  const std::scoped_lock lock(mutex_);
  return job_;
}

JobProgress LiveJob::progress() const {
  const std::scoped_lock lock(mutex_);
  return progress_;
}

void LiveJob::SetProgress(const JobProgress& progress) {
  const std::scoped_lock lock(mutex_);
  progress_ = progress;
}

void LiveJob::Publish(const std::string& name, const nlohmann::ordered_json& data) {
  JobEvent event{0, name, data.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)};
  {
    const std::scoped_lock lock(mutex_);
    if (name == "preview") {
      std::erase_if(events_, [](const JobEvent& other) { return other.name == "preview"; });
    }
    event.number = ++num_events_;
    events_.push_back(std::move(event));
  }
  changed_.notify_all();
}

std::vector<JobEvent> LiveJob::EventsAfter(size_t after, std::chrono::milliseconds wait) const {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, wait, [&] { return num_events_ > after || has_ended_; });
  std::vector<JobEvent> events;
  for (const JobEvent& event : events_) {
    if (event.number > after) events.push_back(event);
  }
  return events;
}

void LiveJob::End() {
  {
    const std::scoped_lock lock(mutex_);
    has_ended_ = true;
  }
  changed_.notify_all();
}

bool LiveJob::HasEnded() const {
  const std::scoped_lock lock(mutex_);
  return has_ended_;
}

bool LiveJob::WaitForEnd(std::chrono::milliseconds wait) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, wait, [&] { return has_ended_; });
}

}  // namespace tamias::serve
