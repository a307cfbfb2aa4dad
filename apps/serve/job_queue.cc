// Least recently served owner first, then first come; kMaxOutOfTurn warm jobs may go before.
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

std::optional<QueuedJob> JobQueue::Pop(Warmth& warm) {
  if (jobs_.empty()) return std::nullopt;
  const auto in_turn = FairChoice();
  auto chosen = in_turn;
  if (warm.out_of_turn < kMaxOutOfTurn) {
    const auto same_shape = std::ranges::find(jobs_, warm.shape, &QueuedJob::shape);
    const auto same_model = std::ranges::find(jobs_, warm.model, &QueuedJob::model);
    if (in_turn->shape != warm.shape && same_shape != jobs_.end()) {
      chosen = same_shape;
    } else if (in_turn->model != warm.model && same_model != jobs_.end()) {
      chosen = same_model;
    }
  }
  warm.out_of_turn = chosen == in_turn ? 0 : warm.out_of_turn + 1;
  QueuedJob job = std::move(*chosen);
  jobs_.erase(chosen);
  warm.model = job.model;
  warm.shape = job.shape;
  last_turn_[job.owner] = ++turn_;
  return job;
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
