// What was put back first, then the least recently served owner's, then first come; kMaxOutOfTurn
// warm jobs may go before.
#include "job_queue.h"

#include <algorithm>
#include <utility>

namespace tamias::serve {

bool JobQueue::HasRoom(const std::string& owner) const {
  const auto of_owner =
      std::ranges::count_if(jobs_, [&](const QueuedJob& job) { return job.owner == owner; });
  return jobs_.size() < capacity_ && static_cast<size_t>(of_owner) < capacity_of_owner_;
}

void JobQueue::Push(QueuedJob job) { jobs_.push_back(std::move(job)); }

JobQueue::Jobs::iterator JobQueue::FairChoice() {
  const auto turn_of = [this](const QueuedJob& job) {
    const auto found = last_turn_.find(job.owner);
    return found == last_turn_.end() ? uint64_t{0} : found->second;
  };
  // The first of equal ones: who came first.
  return std::ranges::min_element(jobs_, {}, turn_of);
}

// in_turn: nothing warm goes before it.
JobQueue::Jobs::iterator JobQueue::WarmChoice(const Warmth& warm, Jobs::iterator in_turn) {
  if (warm.out_of_turn >= kMaxOutOfTurn) return in_turn;
  const auto same_shape = std::ranges::find(jobs_, warm.shape, &QueuedJob::shape);
  if (in_turn->shape != warm.shape && same_shape != jobs_.end()) return same_shape;
  const auto same_model = std::ranges::find(jobs_, warm.model, &QueuedJob::model);
  if (in_turn->model != warm.model && same_model != jobs_.end()) return same_model;
  return in_turn;
}

bool JobQueue::HasNext() const {
  if (jobs_.empty()) return false;
  if (jobs_.front().runs_alone) return running_.empty();
  return std::ranges::none_of(running_,
                              [](const RunningJob& running) { return running.job.runs_alone; });
}

std::optional<QueuedJob> JobQueue::Pop(Warmth& warm) {
  if (!HasNext()) return std::nullopt;
  const bool was_put_back = jobs_.front().runs_alone;
  const auto in_turn = was_put_back ? jobs_.begin() : FairChoice();
  const auto chosen = was_put_back ? in_turn : WarmChoice(warm, in_turn);
  warm.out_of_turn = chosen == in_turn ? 0 : warm.out_of_turn + 1;
  QueuedJob job = std::move(*chosen);
  jobs_.erase(chosen);
  warm.model = job.model;
  warm.shape = job.shape;
  last_turn_[job.owner] = ++turn_;
  running_.push_back({job});
  if (running_.size() > 1) {
    for (RunningJob& running : running_) running.is_beside_others = true;
  }
  return job;
}

void JobQueue::Leave(const std::string& id) {
  std::erase_if(running_, [&](const RunningJob& running) { return running.job.id == id; });
}

void JobQueue::PutBack(const std::string& id) {
  const auto running = std::ranges::find(running_, id, &RunningJob::id);
  QueuedJob job = std::move(running->job);
  running_.erase(running);
  job.runs_alone = true;
  jobs_.insert(std::ranges::find(jobs_, false, &QueuedJob::runs_alone), std::move(job));
}

bool JobQueue::RanBesideOthers(const std::string& id) const {
  const auto running = std::ranges::find(running_, id, &RunningJob::id);
  return running != running_.end() && running->is_beside_others;
}

bool JobQueue::Remove(const std::string& id) {
  return std::erase_if(jobs_, [&](const QueuedJob& job) { return job.id == id; }) > 0;
}

std::optional<size_t> JobQueue::PositionOf(const std::string& id) const {
  size_t position = 0;
  for (const QueuedJob& job : jobs_) {
    if (job.id == id) return position;
    ++position;
  }
  return std::nullopt;
}

}  // namespace tamias::serve
