// Which job runs next: owners take turns, and jobs of one shape (model and size), else of one
// model, go before them for a few jobs, so that what a model keeps warm serves them and models are
// seldom loaded. A job that was put back runs alone. Knows ids only; not for several threads at
// once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <string>

namespace tamias::serve {

struct QueuedJob {
  std::string id;
  std::string owner;
  std::string model;
  std::string shape;
  bool runs_alone = false;  // beside no other job
  bool operator==(const QueuedJob&) const = default;
};

// What a worker ran last.
struct Warmth {
  std::string model;
  std::string shape;
  int out_of_turn = 0;  // jobs that were taken for being warm since the last whose turn it was
};

class JobQueue {
 public:
  // Jobs that go before the one whose turn it is.
  static constexpr int kMaxOutOfTurn = 3;

  JobQueue(size_t capacity, size_t capacity_of_owner)
      : capacity_(capacity), capacity_of_owner_(capacity_of_owner) {}

  // Whether one more job of this owner may wait.
  bool HasRoom(const std::string& owner) const;
  // At the end. Also beyond the capacity: a job that was acknowledged before a restart stays.
  void Push(QueuedJob job);
  // Whether one may begin: none does beside a job that runs alone, nor such a job beside others.
  bool HasNext() const;
  // The next one for a worker, whose `warm` then speaks of it. It runs until Leave or PutBack.
  // Nothing: HasNext says no.
  std::optional<QueuedJob> Pop(Warmth& warm);
  // One that runs. It has ended.
  void Leave(const std::string& id);
  // It waits again, before all that were not put back, and then runs alone.
  void PutBack(const std::string& id);
  // Whether others ran while it has.
  bool RanBesideOthers(const std::string& id) const;
  bool Remove(const std::string& id);
  size_t size() const { return jobs_.size(); }
  size_t running() const { return running_.size(); }
  // Jobs that were taken before it and wait; nothing when it does not wait.
  std::optional<size_t> PositionOf(const std::string& id) const;

 private:
  using Jobs = std::list<QueuedJob>;
  struct RunningJob {
    QueuedJob job;
    bool is_beside_others = false;
    const std::string& id() const { return job.id; }
  };
  Jobs::iterator FairChoice();
  Jobs::iterator WarmChoice(const Warmth& warm, Jobs::iterator in_turn);

  size_t capacity_;
  size_t capacity_of_owner_;
  Jobs jobs_;  // that wait: those that were put back, then the others in the order they came in
  std::list<RunningJob> running_;
  uint64_t turn_ = 0;
  std::map<std::string, uint64_t> last_turn_;  // of each owner that waits or has had one
};

}  // namespace tamias::serve
