// The order matters: keys and models are checked before the store is opened, and the port is bound
// before jobs begin.
#include "server.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "backend.h"
#include "tamias/files.h"
#include "tamias/machine.h"
#include "tamias/text.h"

namespace tamias::serve {
namespace {

constexpr int kMaxConcurrent = 64;

ApiKeys ReadKeys(const ServerOptions& options) {
  if (options.api_key_file) return ApiKeys(*options.api_key_file);
  if (options.listen.IsLoopback()) return {};
  throw Error(
      ErrorCode::kInvalidArgument,
      fmt::format("listen: {} can be reached from other machines: --api-key-file is missing",
                  options.listen.Text()));
}

void CheckNumbers(const ServerOptions& options) {
  const auto check = [](const char* name, int64_t value, int64_t min, int64_t max) {
    if (value >= min && value <= max) return;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: expected {} to {}, found {}", name, min, max, value));
  };
  check("concurrent", options.concurrent, 1, kMaxConcurrent);
  check("max-queue", static_cast<int64_t>(options.max_queue), 1, 100000);
  check("max-pixels", options.limits.max_pixels, 0, int64_t{1} << 40);
  check("max-steps", options.limits.max_steps, 1, 1000);
  check("max-requests-per-minute", options.max_requests_per_minute, 0, 100000);
}

// What this process may use, mapped files counted.
size_t ModelBytes(const ServerOptions& options) {
  if (options.max_model_bytes > 0) return options.max_model_bytes;
  size_t bytes = std::numeric_limits<size_t>::max();
  for (const MemoryLimit& limit : MemoryLimits()) {
    if (limit.kind != MemoryLimit::Kind::kData) bytes = std::min(bytes, limit.bytes);
  }
  return bytes;
}

// Prompts and pictures are their owners' alone.
void CreateFolder(const std::filesystem::path& folder) {
  std::error_code error;
  if (std::filesystem::is_directory(folder, error)) return;
  std::filesystem::create_directories(folder, error);
  if (!error) {
    std::filesystem::permissions(folder, std::filesystem::perms::owner_all, error);
  }
  if (error) {
    throw Error(ErrorCode::kIo,
                fmt::format("output-dir: {}: cannot create: {}", folder.string(), error.message()));
  }
}

}  // namespace

bool ListenAddress::IsLoopback() const {
  in_addr v4{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  return host == "localhost" || host == "::1";
}

std::string ListenAddress::Text() const {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

ListenAddress ParseListenAddress(const std::string& text) {
  const auto fail = [&]() -> ListenAddress {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("listen: expected ADDRESS:PORT such as 127.0.0.1:8188 or [::1]:8188, "
                            "found '{}'",
                            text));
  };
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return fail();
  ListenAddress address{text.substr(0, colon), NumberFrom<int>("listen", text.substr(colon + 1))};
  const bool is_bracketed = address.host.starts_with('[') && address.host.ends_with(']');
  if (is_bracketed) address.host = address.host.substr(1, address.host.size() - 2);
  in_addr v4{};
  in6_addr v6{};
  const bool is_known = is_bracketed ? inet_pton(AF_INET6, address.host.c_str(), &v6) == 1
                                     : inet_pton(AF_INET, address.host.c_str(), &v4) == 1 ||
                                           address.host == "localhost";
  if (!is_known || address.port < 0 || address.port > 65535) return fail();
  return address;
}

Server::Server(const ServerOptions& options)
    : keys_(ReadKeys(options)),
      catalog_((CheckNumbers(options), options.models), options.limits,
               {options.device, options.dtype, options.weight_dtype}, ModelBytes(options)),
      checker_(catalog_, options.limits) {
  CreateFolder(options.output_folder);
  CheckCanWrite(options.output_folder / "probe");
  const ServiceOptions service{.jobs = options.jobs,
                               .output_folder = options.output_folder,
                               .max_queue = options.max_queue,
                               .num_owners = std::max<size_t>(keys_.size(), 1),
                               .concurrent = options.concurrent,
                               .threads = std::max(UsableCpus() / options.concurrent, 1),
                               .log = options.log};
  service_ = std::make_unique<Service>(service, catalog_, metrics_);
  std::vector<Route> routes;
  const Backend backend{*service_, checker_, metrics_, !keys_.empty()};
  AddSiteRoutes(routes, backend);
  AddOpenAiRoutes(routes, backend);
  AddJobRoutes(routes, backend);
  AddWebUiRoutes(routes, backend);
  const HttpOptions http{
      .host = options.listen.host,
      .port = options.listen.port,
      .max_requests_per_minute = static_cast<size_t>(options.max_requests_per_minute),
      .is_local = options.listen.IsLoopback(),
      .on_answer = [this](int status) { metrics_.CountRequest(status); }};
  http_ = std::make_unique<HttpServer>(http, keys_, std::move(routes));
  service_->Start();
}

Server::~Server() = default;

void Server::Run() { http_->Run(); }

void Server::Stop(std::chrono::milliseconds grace) {
  service_->Stop(grace);
  http_->Stop();
}

}  // namespace tamias::serve
