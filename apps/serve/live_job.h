// A job that has not ended: its progress for those who ask, its events for those who listen, and
// the wish to stop it. Threads may use it at once.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "job.h"

namespace tamias::serve {

// What happened, as a server-sent event has it.
struct JobEvent {
  size_t number = 0;  // counts from 1
  std::string name;   // status, stage, step, preview, result, end
  std::string data;   // JSON
};

struct JobProgress {
  std::string stage;  // "encode", "denoise", "decode"; empty: it has not begun
  int image = 0;
  int step = 0;  // of the stage
  int num_steps = 0;
  double seconds = 0;       // since it began
  double seconds_left = 0;  // of the stage; 0: unknown
};

class LiveJob {
 public:
  enum class Stop { kNone, kCancel, kInterrupt };  // of the user; of the server that ends

  explicit LiveJob(Job job) : job_(std::move(job)) {}

  Job job() const;
  JobProgress progress() const;
  // Changes the job's record.
  template <typename Change>
  void Edit(const Change& change) {
    const std::scoped_lock lock(mutex_);
    change(job_);
  }
  void SetProgress(const JobProgress& progress);

  // Of previews only the last one is kept for those who come later: they are large.
  void Publish(const std::string& name, const nlohmann::ordered_json& data);
  // The events after number `after`; waits for the first of them, at most that long.
  std::vector<JobEvent> EventsAfter(size_t after, std::chrono::milliseconds wait) const;

  void RequestStop(Stop reason) { stop_ = reason; }
  Stop stop() const { return stop_; }

  // No events come any more. The record is final.
  void End();
  bool HasEnded() const;
  // Whether it ended within that time.
  bool WaitForEnd(std::chrono::milliseconds wait) const;

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  Job job_;
  JobProgress progress_;
  std::vector<JobEvent> events_;
  size_t num_events_ = 0;
  bool has_ended_ = false;
  std::atomic<Stop> stop_ = Stop::kNone;
};

}  // namespace tamias::serve
