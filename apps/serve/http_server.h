// HTTP/1.1 with one request a connection: routes, keys, limits, and errors as JSON. Whatever comes,
// the answer is one of ours; what a handler throws becomes one.
#pragma once

#include <httplib.h>

#include <atomic>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "api_keys.h"
#include "rate_limit.h"

namespace tamias::serve {

// A request on its way through a route.
struct Call {
  const httplib::Request& request;
  httplib::Response& response;
  std::string owner;               // whose key it has; "" where there are no keys
  std::string id;                  // of {id} in the route's path
  std::string body;                // of POST
  std::string form_type;           // its Content-Type, where it is a form; "": it is JSON
  std::function<bool()> has_left;  // whether the client closed its connection

  void Answer(int status, const nlohmann::ordered_json& body_json) const;
};

struct Route {
  std::string method;  // GET, POST, DELETE
  std::string path;    // "/v1/jobs/{id}/events"
  bool needs_key = true;
  std::function<void(Call&)> handler;
  size_t max_body_bytes = size_t{1} << 20;
  bool takes_forms = false;  // beside JSON
  bool is_counted = true;    // against the limit of requests per minute
};

struct HttpOptions {
  std::string host;                    // an address, or localhost
  int port = 0;                        // 0: any that is free
  size_t max_requests_per_minute = 0;  // of one key, without keys of one address; 0: any number
  // Whether only this machine's names may stand in Host: a page of another site whose name leads
  // here would else be of one origin with us.
  bool is_local = true;
  std::function<void(int status)> on_answer = [](int) {};
};

class HttpServer {
 public:
  // Binds and listens. Throws kIo when the address cannot be had.
  HttpServer(const HttpOptions& options, const ApiKeys& keys, std::vector<Route> routes);
  ~HttpServer();

  int port() const { return port_; }
  void Run();   // until Stop
  void Stop();  // of another thread; ends streams and waits for no client

 private:
  class Listener;

  void Dispatch(const httplib::Request& request, httplib::Response& response, bool& wants_body);
  void Serve(const httplib::Request& request, httplib::Response& response,
             const httplib::ContentReader* reader);
  const Route& Find(const httplib::Request& request, std::string& id) const;
  void AnswerBareStatus(const httplib::Request& request, httplib::Response& response) const;
  void CheckHost(const httplib::Request& request) const;
  std::string OwnerOf(const httplib::Request& request) const;
  void CountRequest(const Route& route, const httplib::Request& request);
  void CheckBody(const Route& route, const httplib::Request& request) const;

  HttpOptions options_;
  const ApiKeys& keys_;
  RateLimit rate_limit_;
  std::vector<Route> routes_;
  std::atomic<int> uploads_ = 0;  // requests with large bodies
  std::unique_ptr<Listener> listener_;
  int port_ = 0;
};

}  // namespace tamias::serve
