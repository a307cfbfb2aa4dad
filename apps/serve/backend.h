// What the routes work with. All outlive the HTTP server.
#pragma once

#include <vector>

#include "http_server.h"
#include "job_request.h"
#include "metrics.h"
#include "service.h"

namespace tamias::serve {

struct Backend {
  Service& service;
  RequestChecker& checker;
  Metrics& metrics;
  bool needs_key = false;
};

// Waits for a job whose client waits, and cancels it when that client leaves. Throws ApiError for a
// job that was not completed.
Job WaitFor(const Backend& backend, const std::shared_ptr<LiveJob>& live, const Call& call);

// Throws ApiError (404) for a job that makes pictures.
void CheckIsVideo(const JobView& view);

// A result's bytes.
std::string ReadResult(const Backend& backend, const Job& job, size_t index);

// POST /v1/images/generations, /v1/videos and its kin, /v1/models.
void AddOpenAiRoutes(std::vector<Route>& routes, const Backend& backend);
// /v1/jobs: list, state, events, results, end.
void AddJobRoutes(std::vector<Route>& routes, const Backend& backend);
// /sdapi/v1: what front ends of Stable Diffusion's web UI use of it.
void AddWebUiRoutes(std::vector<Route>& routes, const Backend& backend);
// The page, /health, /metrics, /openapi.json.
void AddSiteRoutes(std::vector<Route>& routes, const Backend& backend);

}  // namespace tamias::serve
