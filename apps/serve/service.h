// The jobs of the server, from submission to end: taken into the store before anyone is told,
// queued, run by workers, found again, cancelled, and queued again after a restart or where others
// left too little memory. Threads may use it at once.
#pragma once

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "job_json.h"
#include "job_queue.h"
#include "job_runner.h"
#include "job_store.h"
#include "live_job.h"

namespace tamias::serve {

struct ServiceOptions {
  std::filesystem::path jobs;           // the store's file
  std::filesystem::path output_folder;  // of results
  size_t max_queue = 64;
  size_t num_owners = 1;  // that share it
  int concurrent = 1;     // jobs at a time
  int threads = 1;        // of each
  std::function<void(const std::string&)> log = [](const std::string&) {};
};

class Service {
 public:
  // Jobs in the store that had not ended when the server did, by what became of them.
  struct Recovered {
    int queued = 0;     // will run (again)
    int cancelled = 0;  // their clients waited for them, and are gone
    int failed = 0;     // the server ended kMaxInterruptions times while they ran
  };
  static constexpr int kMaxInterruptions = 5;

  // Opens the store and queues what it holds. Throws Error.
  Service(const ServiceOptions& options, const ModelCatalog& catalog, Metrics& metrics);
  ~Service();

  const Recovered& recovered() const { return recovered_; }
  void Start();  // begins to work

  // In the store when this returns, with the picture that its film begins with. Throws ApiError:
  // 429 when the queue or the owner's share of it is full, 503 when the server is stopping or the
  // store refuses.
  std::shared_ptr<LiveJob> Submit(const JobSettings& settings, const std::string& owner,
                                  bool is_kept, const std::string& picture = "");
  // Each of the following throws ApiError (404) for a job that is not there or not this owner's.
  JobView View(const std::string& owner, const std::string& id) const;
  // nullptr when it has ended.
  std::shared_ptr<LiveJob> FindLive(const std::string& owner, const std::string& id) const;
  // Asks a job that has not ended to stop; one that has stays as it is.
  void Cancel(const std::string& owner, const std::string& id);
  // Removes a job that has ended, and its files. Throws 409 for one that has not.
  void Delete(const std::string& owner, const std::string& id);
  // Newest first.
  std::vector<JobView> List(const std::string& owner, int limit, const std::string& after) const;
  // The owner's job that runs, or else waits; nothing: none.
  std::optional<JobView> Current(const std::string& owner) const;

  size_t queue_length() const;
  size_t running() const;
  bool is_stopping() const;
  const std::filesystem::path& output_folder() const { return runner_.output_folder(); }

  // No job is taken or begun any more. Those that run may finish within `grace`; what then still
  // runs or waits is in the store for the next start.
  void Stop(std::chrono::milliseconds grace);

 private:
  void Recover();
  void Work();
  bool MayFitAlone(const QueuedJob& queued) const;
  bool PutBack(LiveJob& live);
  void Finish(const std::shared_ptr<LiveJob>& live, const JobOutcome& outcome);
  void CheckRoom(const std::string& owner) const;
  std::string PictureOf(const Job& job) const;
  bool Save(const Job& job);
  void TellPositions() const;
  int SecondsUntilRoom() const;
  JobView ViewOf(const LiveJob& live) const;

  ServiceOptions options_;
  const ModelCatalog& catalog_;
  JobStore store_;
  JobRunner runner_;
  Metrics& metrics_;
  Recovered recovered_;

  mutable std::mutex mutex_;  // taken before a LiveJob's and the store's
  std::condition_variable changed_;
  JobQueue queue_;
  std::map<std::string, std::shared_ptr<LiveJob>> live_;  // queued or running
  bool is_stopping_ = false;
  double mean_seconds_ = 1;  // of the last jobs
  std::vector<std::thread> workers_;
};

}  // namespace tamias::serve
