// Everything but the bodies of POST is decided before cpp-httplib looks for a route of its own: its
// patterns and its decoders see only what passed.
#include "http_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "api_error.h"
#include "connection.h"
#include "connection_threads.h"
#include "form.h"
#include "job.h"
#include "tamias/error.h"

namespace tamias::serve {
namespace {

constexpr size_t kMaxConnections = 512;
constexpr size_t kSpareThreads = 16;  // that tell clients beyond it so
constexpr size_t kMaxHeaderBytes = 65536;
constexpr size_t kMaxPathBytes = 256;
constexpr int kBacklog = 512;
// Requests of more bytes than kSmallBody have a picture, and take several times their size while
// they are read.
constexpr size_t kSmallBody = size_t{1} << 20;
constexpr int kMaxUploads = 16;
constexpr const char* kFormType = "multipart/form-data";
// Where a form's Content-Type goes: cpp-httplib would else read forms by itself.
constexpr const char* kFormHeader = "Tamias-Form";

std::vector<std::string_view> Segments(std::string_view path) {
  std::vector<std::string_view> segments;
  while (!path.empty()) {
    path.remove_prefix(1);  // '/'
    const size_t end = std::min(path.find('/'), path.size());
    segments.push_back(path.substr(0, end));
    path.remove_prefix(end);
  }
  return segments;
}

bool Matches(const Route& route, std::string_view path, std::string& id) {
  const auto wanted = Segments(route.path), given = Segments(path);
  if (wanted.size() != given.size()) return false;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i] == "{id}") {
      id = given[i];
      if (!IsJobId(id)) return false;
    } else if (wanted[i] != given[i]) {
      return false;
    }
  }
  return true;
}

void AnswerJson(httplib::Response& response, int status, const nlohmann::ordered_json& json) {
  response.status = status;
  response.set_content(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n",
                       "application/json");
}

void AnswerError(httplib::Response& response, const ApiError& error) {
  response.headers.erase("Content-Type");
  response.content_provider_ = nullptr;
  response.content_length_ = 0;
  AnswerJson(response, error.status, ErrorBody(error));
  if (error.status == 401) response.set_header("WWW-Authenticate", "Bearer");
  if (!error.allowed_methods.empty()) response.set_header("Allow", error.allowed_methods);
  if (error.retry_after_seconds > 0) {
    response.set_header("Retry-After", std::to_string(error.retry_after_seconds));
  }
}

std::string RawAnswer(int status, const char* reason, const char* message, const char* code) {
  const ApiError error(status, message, "invalid_request_error", code);
  const std::string body = ErrorBody(error).dump() + "\n";
  return fmt::format(
      "HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n"
      "Connection: close\r\n\r\n{}",
      status, reason, body.size(), body);
}

void HideForm(httplib::Request& request) {
  request.headers.erase(kFormHeader);
  const std::string type = request.get_header_value("Content-Type");
  if (MediaType(type) != kFormType) return;
  request.headers.erase("Content-Type");
  request.headers.emplace(kFormHeader, type);
}

// A place among the large bodies. Throws 503 where there is none.
class Upload {
 public:
  Upload(std::atomic<int>& uploads, const httplib::Request& request)
      : uploads_(request.get_header_value<uint64_t>("Content-Length") > kSmallBody ? &uploads
                                                                                   : nullptr) {
    if (uploads_ == nullptr || ++*uploads_ <= kMaxUploads) return;
    --*uploads_;
    ApiError error(503, fmt::format("expected at most {} uploads at a time", kMaxUploads),
                   "server_error", "too_many_uploads");
    error.retry_after_seconds = 1;
    throw error;
  }
  ~Upload() {
    if (uploads_ != nullptr) --*uploads_;
  }
  Upload(const Upload&) = delete;
  Upload& operator=(const Upload&) = delete;

 private:
  std::atomic<int>* uploads_;  // nullptr: it is small
};

size_t LargestBody(const std::vector<Route>& routes) {
  size_t bytes = 0;
  for (const Route& route : routes) bytes = std::max(bytes, route.max_body_bytes);
  return bytes;
}

std::string ReadBody(const httplib::ContentReader& reader, size_t max_bytes) {
  std::string body;
  const bool is_whole = reader([&](const char* bytes, size_t size) {
    body.append(bytes, size);
    return body.size() <= max_bytes;
  });
  if (!is_whole) throw InvalidRequest("", "body: shorter than Content-Length", "incomplete_body");
  return body;
}

// "127.0.0.1" of "127.0.0.1:8188", "::1" of "[::1]:8188".
std::string_view HostName(std::string_view host) {
  if (host.starts_with('[')) return host.substr(1, host.find(']') - 1);
  return host.substr(0, host.find(':'));
}

}  // namespace

void Call::Answer(int status, const nlohmann::ordered_json& body_json) const {
  AnswerJson(response, status, body_json);
}

// cpp-httplib's server with our connections.
class HttpServer::Listener final : public httplib::Server {
 public:
  explicit Listener(size_t max_body_bytes) : max_request_bytes_(max_body_bytes + kMaxHeaderBytes) {
    new_task_queue = [] { return new ConnectionThreads(kMaxConnections + kSpareThreads); };
  }

  void DeepenBacklog() { ::listen(svr_sock_, kBacklog); }
  void StopConnections() { is_stopping_ = true; }
  const std::atomic<bool>& is_stopping() const { return is_stopping_; }

 private:
  bool process_and_close_socket(socket_t socket) override {
    Connection connection(socket, max_request_bytes_, is_stopping_);
    if (++active_ > kMaxConnections) {
      const std::string answer =
          RawAnswer(503, "Service Unavailable", "too many connections", "too_many_connections");
      connection.write(answer.data(), answer.size());
    } else {
      Process(connection);
    }
    connection.Linger();
    --active_;
    ::close(socket);
    return true;
  }

  void Process(Connection& connection) noexcept {
    try {
      bool is_closed = false;
      process_request(connection, /*close_connection=*/true, is_closed,
                      [&connection](httplib::Request& request) {
                        request.ranges.clear();  // many of them would be one large answer
                        HideForm(request);
                        // The one place of a request that can lead a handler to its connection.
                        request.progress = [&connection](uint64_t, uint64_t) {
                          return !connection.HasLeft();
                        };
                      });
    } catch (const std::exception&) {
      // A header that cpp-httplib could not take: answered below.
    }
    // A client that has closed its sending side alone still reads.
    if (connection.has_written()) return;
    const std::string answer =
        RawAnswer(408, "Request Timeout", "the request did not come whole", "incomplete_request");
    connection.write(answer.data(), answer.size());
  }

  size_t max_request_bytes_;
  std::atomic<bool> is_stopping_ = false;
  std::atomic<size_t> active_ = 0;
};

HttpServer::HttpServer(const HttpOptions& options, const ApiKeys& keys, std::vector<Route> routes)
    : options_(options),
      keys_(keys),
      rate_limit_(options.max_requests_per_minute),
      routes_(std::move(routes)),
      listener_(std::make_unique<Listener>(LargestBody(routes_))) {
  using httplib::Request, httplib::Response;
  // cpp-httplib would share the port with whoever asks for the same (SO_REUSEPORT).
  listener_->set_socket_options([](socket_t socket) {
    const int yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  listener_->set_default_headers({{"X-Content-Type-Options", "nosniff"},
                                  {"Cache-Control", "no-store"},
                                  {"Referrer-Policy", "no-referrer"}});
  listener_->set_pre_routing_handler([this](const Request& request, Response& response) {
    bool wants_body = false;
    Dispatch(request, response, wants_body);
    return wants_body ? httplib::Server::HandlerResponse::Unhandled
                      : httplib::Server::HandlerResponse::Handled;
  });
  listener_->Post(
      ".*", [this](const Request& request, Response& response,
                   const httplib::ContentReader& reader) { Serve(request, response, &reader); });
  listener_->set_error_handler(
      [this](const Request& request, Response& response) { AnswerBareStatus(request, response); });
  listener_->set_logger(
      [this](const Request&, const Response& response) { options_.on_answer(response.status); });
  const bool is_bound = options_.port == 0
                            ? (port_ = listener_->bind_to_any_port(options_.host)) > 0
                            : listener_->bind_to_port(options_.host, port_ = options_.port);
  if (!is_bound) {
    throw Error(ErrorCode::kIo, fmt::format("listen: {}:{}: cannot bind: {}", options_.host,
                                            options_.port, std::strerror(errno)));
  }
  listener_->DeepenBacklog();
}

HttpServer::~HttpServer() = default;

void HttpServer::Run() { listener_->listen_after_bind(); }

void HttpServer::Stop() {
  listener_->StopConnections();
  listener_->stop();
}

const Route& HttpServer::Find(const httplib::Request& request, std::string& id) const {
  const std::string method = request.method == "HEAD" ? "GET" : request.method;
  std::string allowed;
  if (request.path.starts_with('/') && request.path.size() <= kMaxPathBytes) {
    for (const Route& route : routes_) {
      if (!Matches(route, request.path, id)) continue;
      if (route.method == method) return route;
      allowed += (allowed.empty() ? "" : ", ") + route.method;
      if (route.method == "GET") allowed += ", HEAD";
    }
  }
  if (allowed.empty()) throw NotFound("path: there is nothing here", "not_found");
  ApiError error(405, fmt::format("method: expected {}", allowed), "invalid_request_error",
                 "method_not_allowed");
  error.allowed_methods = allowed;
  throw error;
}

// What cpp-httplib refuses by itself: a request that is none, or of a method that it does not know,
// where it reads nothing behind the request's line.
void HttpServer::AnswerBareStatus(const httplib::Request& request,
                                  httplib::Response& response) const {
  if (!response.body.empty() || response.status < 400) return;
  const int status = response.status;
  ApiError error(status, fmt::format("the request could not be read (status {})", status),
                 "invalid_request_error", "bad_request");
  if (request.path.empty() && request.version.starts_with("HTTP/1.")) {
    httplib::Request line;
    line.method = request.method;
    line.path = request.target.substr(0, request.target.find('?'));
    std::string id;
    try {
      Find(line, id);
    } catch (const ApiError& found) {
      error = found;
    }
  }
  AnswerError(response, error);
}

void HttpServer::CheckHost(const httplib::Request& request) const {
  if (!options_.is_local || !request.has_header("Host")) return;
  const std::string header = request.get_header_value("Host");
  const std::string name(HostName(header));
  in_addr address{};
  const bool is_loopback =
      inet_pton(AF_INET, name.c_str(), &address) == 1 && (ntohl(address.s_addr) >> 24) == 127;
  if (is_loopback || name == "localhost" || name == "::1") return;
  throw ApiError(403, "Host: expected a name of this machine's loopback", "invalid_request_error",
                 "wrong_host");
}

std::string HttpServer::OwnerOf(const httplib::Request& request) const {
  constexpr std::string_view kScheme = "Bearer ";
  const std::string header = request.get_header_value("Authorization");
  const bool has_key = header.starts_with(kScheme);
  const auto owner =
      keys_.OwnerOf(has_key ? std::string_view(header).substr(kScheme.size()) : std::string_view());
  if (owner) return *owner;
  throw ApiError(
      401, has_key ? "Authorization: the key is not known" : "Authorization: expected 'Bearer KEY'",
      "authentication_error", "invalid_api_key");
}

void HttpServer::CountRequest(const Route& route, const httplib::Request& request) {
  if (!route.is_counted) return;
  const int seconds =
      rate_limit_.SecondsToWait(keys_.empty() ? request.remote_addr : OwnerOf(request));
  if (seconds == 0) return;
  ApiError error(
      429, fmt::format("expected at most {} requests per minute", options_.max_requests_per_minute),
      "rate_limit_error", "rate_limit_exceeded");
  error.retry_after_seconds = seconds;
  throw error;
}

// Before a byte of it is read. A page of another site can send forms and plain text, but not JSON,
// and cannot hide where it is from.
void HttpServer::CheckBody(const Route& route, const httplib::Request& request) const {
  const std::string type = MediaType(request.get_header_value("Content-Type"));
  const bool is_form = route.takes_forms && request.has_header(kFormHeader);
  const bool is_empty = request.get_header_value("Content-Length") == "0" && type.empty() &&
                        !request.has_header(kFormHeader) && !request.has_header("Origin");
  if (!is_empty && !is_form && type != "application/json") {
    throw ApiError(415,
                   fmt::format("Content-Type: expected application/json{}",
                               route.takes_forms ? " or multipart/form-data" : ""),
                   "invalid_request_error", "unsupported_media_type");
  }
  if (is_form && request.has_header("Origin")) {
    throw ApiError(403, "Origin: forms of pages are not taken, expected application/json",
                   "invalid_request_error", "wrong_origin");
  }
  if (request.has_header("Content-Encoding") || request.has_header("Transfer-Encoding") ||
      request.get_header_value_count("Content-Length") != 1) {
    throw ApiError(411, "Content-Length: expected one, and a body as it is",
                   "invalid_request_error", "length_required");
  }
  const std::string text = request.get_header_value("Content-Length");
  const bool is_number = !text.empty() && text.size() < 19 &&
                         text.find_first_not_of("0123456789") == std::string::npos;
  if (!is_number) throw InvalidRequest("Content-Length", "Content-Length: expected a number");
  if (std::stoull(text) > route.max_body_bytes) {
    throw ApiError(413, fmt::format("body: expected at most {} bytes", route.max_body_bytes),
                   "invalid_request_error", "body_too_large");
  }
}

void HttpServer::Dispatch(const httplib::Request& request, httplib::Response& response,
                          bool& wants_body) {
  try {
    CheckHost(request);
    std::string id;
    const Route& route = Find(request, id);
    if (route.needs_key) OwnerOf(request);
    CountRequest(route, request);
    if (route.method == "POST") {
      CheckBody(route, request);
      wants_body = true;
      return;
    }
  } catch (const ApiError& error) {
    AnswerError(response, error);
    return;
  }
  Serve(request, response, nullptr);
}

void HttpServer::Serve(const httplib::Request& request, httplib::Response& response,
                       const httplib::ContentReader* reader) {
  try {
    std::string id;
    const Route& route = Find(request, id);
    Call call{request,
              response,
              route.needs_key ? OwnerOf(request) : "",
              id,
              /*body=*/"",
              request.get_header_value(kFormHeader),
              /*has_left=*/{}};
    call.has_left = [&request] { return !request.progress(0, 0); };
    const Upload upload(uploads_, request);
    if (reader != nullptr) call.body = ReadBody(*reader, route.max_body_bytes);
    response.status = 200;
    route.handler(call);
  } catch (const ApiError& error) {
    AnswerError(response, error);
  } catch (const Error& error) {
    AnswerError(response, FromLibrary(error));
  } catch (const std::exception& error) {
    AnswerError(response, {500, WithoutPaths(error.what()), "server_error", "internal_error"});
  }
}

}  // namespace tamias::serve
