// The page, and what machines ask a server: health, metrics, the OpenAPI document.
#include "api_error.h"
#include "backend.h"
#include "embedded_files.h"

namespace tamias::serve {
namespace {

// The page is one file with its style and script within it, and fetches nothing from elsewhere.
constexpr const char* kPagePolicy =
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'";

void TellHealth(const Backend& backend, Call& call) {
  if (backend.service.is_stopping()) {
    call.Answer(503, {{"status", "stopping"}});
    return;
  }
  call.Answer(200, {{"status", "ok"}});
}

}  // namespace

void AddSiteRoutes(std::vector<Route>& routes, const Backend& backend) {
  const auto add = [&](const char* path, bool needs_key, auto handler) {
    routes.push_back({.method = "GET",
                      .path = path,
                      .needs_key = needs_key,
                      .handler = [backend, handler](Call& call) { handler(backend, call); },
                      .is_counted = false});
  };
  add("/", false, [](const Backend&, Call& call) {
    call.response.set_header("Content-Security-Policy", kPagePolicy);
    call.response.set_content(std::string(Page()), "text/html; charset=utf-8");
  });
  add("/openapi.json", false, [](const Backend&, Call& call) {
    call.response.set_content(std::string(OpenApiDocument()), "application/json");
  });
  add("/health", false, TellHealth);
  add("/metrics", backend.needs_key, [](const Backend& back, Call& call) {
    call.response.set_content(
        back.metrics.Text({.queue_length = back.service.queue_length(),
                           .running = back.service.running(),
                           .model_bytes = back.checker.catalog().loaded().bytes()}),
        "text/plain; version=0.0.4; charset=utf-8");
  });
}

}  // namespace tamias::serve
