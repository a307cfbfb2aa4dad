// A job as the server's answers have it.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "job.h"
#include "live_job.h"

namespace tamias::serve {

// "/v1/jobs/ID/content?index=0"
std::string ContentPath(const std::string& id, int index);
// "image/png"
const char* ContentType(const std::string& format);

struct JobView {
  Job job;
  std::optional<size_t> position;  // in the queue
  JobProgress progress;
};

// The share of all its steps that are done, 0 to 1.
double Share(const JobView& view);

// Of GET /v1/jobs/{id} and the event "end".
nlohmann::ordered_json ToJson(const JobView& view);

}  // namespace tamias::serve
