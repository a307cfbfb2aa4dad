// Workers take jobs from the queue; the store is told before those who wait are.
#include "service.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>

#include "api_error.h"

namespace tamias::serve {
namespace {

constexpr double kNewestShare = 0.3;  // of the mean of the jobs' seconds
constexpr size_t kPositionsTold = 10;
constexpr int kMaxRetryAfter = 600;  // seconds
constexpr int kMaxAttempts = 3;      // to store a change
constexpr auto kBetweenAttempts = std::chrono::milliseconds(300);

int64_t Now() { return static_cast<int64_t>(std::time(nullptr)); }

nlohmann::ordered_json StatusEvent(JobStatus status, std::optional<size_t> position) {
  nlohmann::ordered_json json = {{"status", Name(status)}};
  if (position) json["position"] = *position;
  return json;
}

// A line of the log, without the prompt.
std::string Describe(const Job& job) {
  std::string line = fmt::format("{}: {}", job.id, Name(job.status));
  if (job.status == JobStatus::kCompleted) line += fmt::format(" in {:.2f} s", job.seconds_total);
  if (job.status == JobStatus::kFailed) line += ": " + job.error_message;
  return line;
}

}  // namespace

Service::Service(const ServiceOptions& options, const ModelCatalog& catalog, Metrics& metrics)
    : options_(options),
      catalog_(catalog),
      store_(options.jobs),
      runner_(catalog, options.output_folder, options.threads, metrics),
      metrics_(metrics),
      queue_(options.max_queue,
             std::max<size_t>(options.max_queue / std::max<size_t>(options.num_owners, 1), 1)) {
  Recover();
}

void Service::Start() {
  for (int i = 0; i < options_.concurrent; ++i) workers_.emplace_back([this] { Work(); });
}

Service::~Service() { Stop(std::chrono::milliseconds(0)); }

void Service::Recover() {
  std::vector<Job> jobs = store_.Unfinished();
  for (Job& job : jobs) {
    if (job.status == JobStatus::kInProgress) ++job.interruptions;
  }
  // If it was such a job that ended the server, those that only waited have their turn before it.
  std::ranges::stable_sort(jobs, {}, &Job::interruptions);
  for (Job& job : jobs) {
    job.Requeue();
    if (!job.is_kept) {
      ++recovered_.cancelled;
      job.status = JobStatus::kCancelled;
      job.error_code = "cancelled";
      job.error_message = "the server ended, and the client that waited is gone";
    } else if (job.interruptions >= kMaxInterruptions) {
      ++recovered_.failed;
      job.status = JobStatus::kFailed;
      job.error_code = "interrupted";
      job.error_message =
          fmt::format("the server ended {} times while this job ran", job.interruptions);
    } else {
      ++recovered_.queued;
    }
    if (job.HasEnded()) {
      job.finished_at = Now();
      runner_.RemoveFiles(job);
    } else {
      auto live = std::make_shared<LiveJob>(job);
      queue_.Push({job.id, job.owner, job.settings.model, ShapeOf(job.settings)});
      live->Publish("status", StatusEvent(job.status, queue_.PositionOf(job.id)));
      live_[job.id] = std::move(live);
    }
    store_.Update(job);
  }
}

int Service::SecondsUntilRoom() const {
  const double seconds = mean_seconds_ * static_cast<double>(queue_.size() + queue_.running()) /
                         static_cast<double>(options_.concurrent);
  // One place becomes free after one job; asking at that rate is enough for whoever asks last.
  return std::clamp(static_cast<int>(std::ceil(std::min(seconds, mean_seconds_ * 4))), 1,
                    kMaxRetryAfter);
}

// Needs the lock.
void Service::CheckRoom(const std::string& owner) const {
  if (is_stopping_) throw Stopping();
  if (queue_.HasRoom(owner)) return;
  ApiError error(429, fmt::format("the queue is full: {} jobs wait", queue_.size()),
                 "rate_limit_error", "queue_full");
  error.retry_after_seconds = SecondsUntilRoom();
  throw error;
}

std::shared_ptr<LiveJob> Service::Submit(const JobSettings& settings, const std::string& owner,
                                         bool is_kept, const std::string& picture) {
  Job job;
  job.id = NewJobId(settings.is_video);
  job.owner = owner;
  job.is_kept = is_kept;
  job.settings = settings;
  job.created_at = Now();
  auto live = std::make_shared<LiveJob>(job);
  const std::scoped_lock lock(mutex_);
  CheckRoom(owner);
  try {
    store_.Insert(job, picture);
  } catch (const Error& error) {
    options_.log(error.what());
    throw ApiError(503, "the job could not be stored", "server_error", "store_failed");
  }
  live_[job.id] = live;
  queue_.Push({job.id, owner, settings.model, ShapeOf(settings)});
  live->Publish("status", StatusEvent(job.status, queue_.PositionOf(job.id)));
  changed_.notify_one();
  return live;
}

JobView Service::ViewOf(const LiveJob& live) const {
  JobView view{live.job(), std::nullopt, live.progress()};
  view.position = queue_.PositionOf(view.job.id);
  return view;
}

JobView Service::View(const std::string& owner, const std::string& id) const {
  const std::scoped_lock lock(mutex_);
  if (const auto found = live_.find(id); found != live_.end()) {
    JobView view = ViewOf(*found->second);
    if (view.job.owner == owner) return view;
  } else if (const auto job = store_.Find(id); job && job->owner == owner) {
    return {*job, std::nullopt, {}};
  }
  throw NotFound("id: no such job", "job_not_found");
}

std::shared_ptr<LiveJob> Service::FindLive(const std::string& owner, const std::string& id) const {
  const std::scoped_lock lock(mutex_);
  const auto found = live_.find(id);
  if (found == live_.end() || found->second->job().owner != owner) return nullptr;
  return found->second;
}

void Service::Cancel(const std::string& owner, const std::string& id) {
  std::shared_ptr<LiveJob> live;
  {
    const std::scoped_lock lock(mutex_);
    const auto found = live_.find(id);
    if (found == live_.end() || found->second->job().owner != owner) return;
    live = found->second;
    if (!queue_.Remove(id)) {
      live->RequestStop(LiveJob::Stop::kCancel);
      return;
    }
    changed_.notify_all();  // others may have waited for it to run alone
  }
  Finish(live, OutcomeOf(LiveJob::Stop::kCancel));
}

void Service::Delete(const std::string& owner, const std::string& id) {
  const JobView view = View(owner, id);
  if (!view.job.HasEnded()) {
    throw ApiError(409, "id: the job has not ended", "invalid_request_error", "job_not_ended");
  }
  try {
    store_.Delete(id);
  } catch (const Error& error) {
    options_.log(error.what());
    throw ApiError(503, "the job could not be removed", "server_error", "store_failed");
  }
  runner_.RemoveFiles(view.job);
}

std::vector<JobView> Service::List(const std::string& owner, int limit,
                                   const std::string& after) const {
  const std::scoped_lock lock(mutex_);
  std::vector<JobView> views;
  for (Job& job : store_.List(owner, limit, after)) {
    const auto found = live_.find(job.id);
    views.push_back(found != live_.end() ? ViewOf(*found->second)
                                         : JobView{std::move(job), std::nullopt, {}});
  }
  return views;
}

std::optional<JobView> Service::Current(const std::string& owner) const {
  const std::scoped_lock lock(mutex_);
  std::optional<JobView> current;
  for (const auto& [id, live] : live_) {
    JobView view = ViewOf(*live);
    if (view.job.owner != owner) continue;
    if (!current || view.job.status == JobStatus::kInProgress) current = std::move(view);
  }
  return current;
}

size_t Service::queue_length() const {
  const std::scoped_lock lock(mutex_);
  return queue_.size();
}

size_t Service::running() const {
  const std::scoped_lock lock(mutex_);
  return queue_.running();
}

bool Service::is_stopping() const {
  const std::scoped_lock lock(mutex_);
  return is_stopping_;
}

// Needs the lock.
void Service::TellPositions() const {
  for (const auto& [id, live] : live_) {
    const auto position = queue_.PositionOf(id);
    if (position && *position < kPositionsTold) {
      live->Publish("status", StatusEvent(JobStatus::kQueued, position));
    }
  }
}

void Service::Work() {
  Warmth warm;
  while (true) {
    QueuedJob queued;
    std::shared_ptr<LiveJob> live;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return is_stopping_ || queue_.HasNext(); });
      if (is_stopping_) return;
      queued = *queue_.Pop(warm);
      live = live_.at(queued.id);
      live->Edit([](Job& job) {
        job.status = JobStatus::kInProgress;
        job.started_at = Now();
      });
      TellPositions();
    }
    Save(live->job());
    live->Publish("status", StatusEvent(JobStatus::kInProgress, std::nullopt));
    JobOutcome outcome = runner_.Run(*live, PictureOf(live->job()), queued.runs_alone);
    if (outcome.is_out_of_memory && MayFitAlone(queued)) {
      if (PutBack(*live)) continue;
      outcome = OutcomeOf(live->stop());
    }
    Finish(live, outcome);
    const std::scoped_lock lock(mutex_);
    queue_.Leave(queued.id);
    changed_.notify_all();
  }
}

// Whether a job that ran out of memory shared it with others.
bool Service::MayFitAlone(const QueuedJob& queued) const {
  if (queued.runs_alone) return false;
  if (!catalog_.loaded().IsAlone(queued.model)) return true;
  const std::scoped_lock lock(mutex_);
  return queue_.RanBesideOthers(queued.id);
}

// A job that is to run again, alone. False: it is to stop.
bool Service::PutBack(LiveJob& live) {
  const std::scoped_lock lock(mutex_);
  if (is_stopping_ || live.stop() != LiveJob::Stop::kNone) return false;
  live.Edit([](Job& job) { job.Requeue(); });
  live.SetProgress({});
  const Job job = live.job();
  try {
    store_.Update(job);
  } catch (const Error& error) {
    options_.log(error.what());  // if the server ends now, the job counts as interrupted
  }
  queue_.PutBack(job.id);
  options_.log(job.id + ": queued again, to run alone: others left too little memory");
  TellPositions();
  changed_.notify_all();
  return true;
}

// Empty: the job has none, or the store does not give it, which the runner then finds.
std::string Service::PictureOf(const Job& job) const {
  try {
    return job.settings.picture ? store_.Picture(job.id) : "";
  } catch (const Error& error) {
    options_.log(error.what());
    return "";
  }
}

// False: the store refuses (a full disk), and says the same as before.
bool Service::Save(const Job& job) {
  for (int attempt = 1;; ++attempt) {
    try {
      store_.Update(job);
      return true;
    } catch (const Error& error) {
      options_.log(error.what());
      if (attempt == kMaxAttempts) return false;
      std::this_thread::sleep_for(kBetweenAttempts);
    }
  }
}

// The store knows of an end before anyone else does.
void Service::Finish(const std::shared_ptr<LiveJob>& live, const JobOutcome& outcome) {
  Job job = live->job();
  job.status = outcome.status;
  job.error_code = outcome.error_code;
  job.error_message = outcome.error_message;
  if (job.status == JobStatus::kQueued) {
    job.Requeue();
    if (!job.is_kept) {
      job.status = JobStatus::kCancelled;
      job.error_code = "stopping";
      job.error_message = "the server is stopping";
    }
  }
  if (job.HasEnded()) job.finished_at = Now();
  if (!Save(job)) {
    job.status = JobStatus::kFailed;
    job.error_code = "store_failed";
    job.error_message = "the end could not be stored: the job runs again at the next start";
  }
  metrics_.CountJob(job.HasEnded() ? Name(job.status) : "interrupted");
  options_.log(Describe(job));
  const std::scoped_lock lock(mutex_);
  live->Edit([&](Job& record) { record = job; });
  live->Publish("end", ToJson(JobView{job, std::nullopt, {}}));
  live->End();
  if (job.status == JobStatus::kCompleted) {
    mean_seconds_ += kNewestShare * (job.seconds_total - mean_seconds_);
  }
  live_.erase(job.id);
}

void Service::Stop(std::chrono::milliseconds grace) {
  std::vector<std::shared_ptr<LiveJob>> waiting;
  {
    std::unique_lock lock(mutex_);
    if (is_stopping_) return;
    is_stopping_ = true;
    changed_.notify_all();
    for (const auto& [id, live] : live_) {
      if (queue_.Remove(id)) waiting.push_back(live);
    }
  }
  for (const auto& live : waiting) Finish(live, OutcomeOf(LiveJob::Stop::kInterrupt));
  {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, grace, [this] { return queue_.running() == 0; });
    for (const auto& [id, live] : live_) {
      if (live->stop() == LiveJob::Stop::kNone) live->RequestStop(LiveJob::Stop::kInterrupt);
    }
  }
  for (std::thread& worker : workers_) worker.join();
}

}  // namespace tamias::serve
