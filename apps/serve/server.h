// `tamias serve` as a library: models, jobs and HTTP put together.
#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "http_server.h"
#include "job_request.h"
#include "metrics.h"
#include "model_catalog.h"
#include "service.h"

namespace tamias::serve {

struct ListenAddress {
  std::string host;  // an address, or localhost
  int port = 0;      // 0: any that is free
  bool IsLoopback() const;
  std::string Text() const;  // "127.0.0.1:8188", "[::1]:8188"
};

// "127.0.0.1:8188", "[::1]:8188", "localhost:8188". Throws kInvalidArgument.
ListenAddress ParseListenAddress(const std::string& text);

struct ServerOptions {
  std::vector<std::string> models;  // folders
  ListenAddress listen;
  std::optional<std::filesystem::path> api_key_file;
  std::filesystem::path jobs;           // the store's file
  std::filesystem::path output_folder;  // created where it is not there
  Limits limits;
  size_t max_queue = 64;
  int concurrent = 1;
  size_t max_model_bytes = 0;           // of weights in memory; 0: what this process may use
  int64_t max_requests_per_minute = 0;  // of one key or address; 0: any number
  std::string device = "cpu";           // of all jobs, as in GenerateOptions; MachineChoice
  std::string dtype = "auto";
  std::string weight_dtype = "auto";
  std::function<void(const std::string&)> log = [](const std::string&) {};
};

class Server {
 public:
  // Loads the models, opens the store and the port; jobs of the last run begin. Throws Error.
  explicit Server(const ServerOptions& options);
  ~Server();

  int port() const { return http_->port(); }
  const Service::Recovered& recovered() const { return service_->recovered(); }
  void Run();  // serves until Stop
  // Of another thread: no new jobs; those that run may finish within `grace`.
  void Stop(std::chrono::milliseconds grace);

 private:
  ApiKeys keys_;
  ModelCatalog catalog_;
  Metrics metrics_;
  RequestChecker checker_;
  std::unique_ptr<Service> service_;
  std::unique_ptr<HttpServer> http_;
};

}  // namespace tamias::serve
