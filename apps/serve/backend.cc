// Waiting and reading, which several routes do.
#include "backend.h"

#include "api_error.h"
#include "tamias/files.h"

namespace tamias::serve {
namespace {

constexpr auto kLookForClient = std::chrono::milliseconds(100);
constexpr size_t kMaxResultBytes = size_t{1} << 31;

ApiError ErrorOf(const Job& job) {
  if (job.error_code == "stopping" || !job.HasEnded()) return Stopping();
  if (job.status == JobStatus::kCancelled) {
    return {409, job.error_message, "invalid_request_error", "cancelled"};
  }
  const bool is_request = job.error_code == "too_large" || job.error_code == "invalid_value";
  return {is_request ? 400 : 500, job.error_message,
          is_request ? "invalid_request_error" : "server_error", job.error_code};
}

}  // namespace

Job WaitFor(const Backend& backend, const std::shared_ptr<LiveJob>& live, const Call& call) {
  while (!live->WaitForEnd(kLookForClient)) {
    if (call.has_left()) backend.service.Cancel(call.owner, live->job().id);
  }
  Job job = live->job();
  if (job.status != JobStatus::kCompleted) throw ErrorOf(job);
  return job;
}

void CheckIsVideo(const JobView& view) {
  if (!view.job.settings.is_video) throw NotFound("id: no such video", "video_not_found");
}

std::string ReadResult(const Backend& backend, const Job& job, size_t index) {
  try {
    return ReadFile(backend.service.output_folder() / job.files.at(index), kMaxResultBytes);
  } catch (const Error&) {
    throw NotFound("id: the result is not there any more", "result_not_found");
  }
}

}  // namespace tamias::serve
