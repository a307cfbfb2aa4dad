// Status, settings, progress, results, times and how to make it again.
#include "job_json.h"

#include <fmt/format.h>

#include <algorithm>

namespace tamias::serve {

using Json = nlohmann::ordered_json;

std::string ContentPath(const std::string& id, int index) {
  return fmt::format("/v1/jobs/{}/content?index={}", id, index);
}

const char* ContentType(const std::string& format) {
  if (format == "mp4") return "video/mp4";
  if (format == "jpeg") return "image/jpeg";
  if (format == "webp") return "image/webp";
  return "image/png";
}

double Share(const JobView& view) {
  if (view.job.status == JobStatus::kCompleted) return 1;
  size_t steps = 0;
  for (const std::string& one : view.job.steps) steps += one.size();
  const double total = static_cast<double>(view.job.settings.steps) * view.job.settings.n;
  return total > 0 ? std::min(static_cast<double>(steps) / total, 1.0) : 0;
}

Json ToJson(const JobView& view) {
  const Job& job = view.job;
  const auto time = [](int64_t at) { return at > 0 ? Json(at) : Json(); };
  Json json = {{"id", job.id},
               {"object", "job"},
               {"kind", job.settings.is_video ? "video" : "image"},
               {"status", Name(job.status)},
               {"created_at", job.created_at},
               {"started_at", time(job.started_at)},
               {"finished_at", time(job.finished_at)},
               {"interruptions", job.interruptions}};
  if (view.position) json["position"] = *view.position;
  json["progress"] = Share(view);
  if (job.status == JobStatus::kInProgress) {
    json["stage"] = {
        {"stage", view.progress.stage},     {"image", view.progress.image},
        {"step", view.progress.step},       {"num_steps", view.progress.num_steps},
        {"seconds", view.progress.seconds}, {"seconds_left", view.progress.seconds_left}};
  }
  json["steps"] = job.steps;
  json["results"] = Json::array();
  for (size_t i = 0; i < job.files.size(); ++i) {
    json["results"].push_back({{"url", ContentPath(job.id, static_cast<int>(i))},
                               {"content_type", ContentType(job.settings.format)}});
  }
  if (job.status == JobStatus::kCompleted) {
    json["seconds"] = {{"total", job.seconds_total},
                       {"encode", job.seconds_encode},
                       {"denoise", job.seconds_denoise},
                       {"decode", job.seconds_decode}};
  }
  json["settings"] = ToJson(job.settings);
  json["command"] = CommandLine(job.settings);
  if (!job.error_code.empty()) {
    json["error"] = {{"message", job.error_message}, {"code", job.error_code}};
  }
  return json;
}

}  // namespace tamias::serve
