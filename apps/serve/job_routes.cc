// Jobs of both kinds: list, state, events as they happen, results, cancelling and removing.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <memory>

#include "api_error.h"
#include "backend.h"

namespace tamias::serve {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaxListed = 100;
constexpr auto kEventWait = std::chrono::milliseconds(500);
constexpr int kWaitsPerHeartbeat = 20;  // proxies close streams that are silent
constexpr size_t kPiece = size_t{1} << 16;

// A number in the query; nothing where there is none. Throws for another text.
std::optional<int64_t> QueryNumber(const Call& call, const char* name, int64_t min, int64_t max) {
  if (!call.request.has_param(name)) return std::nullopt;
  const std::string text = call.request.get_param_value(name);
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < min || number > max) {
    throw InvalidRequest(name, fmt::format("{}: expected a number from {} to {}", name, min, max));
  }
  return number;
}

void ListJobs(const Backend& backend, Call& call) {
  const int limit = static_cast<int>(QueryNumber(call, "limit", 1, kMaxListed).value_or(20));
  const std::string after = call.request.get_param_value("after");
  if (!after.empty() && !IsJobId(after)) {
    throw InvalidRequest("after", "after: expected the id of a job");
  }
  std::vector<JobView> views = backend.service.List(call.owner, limit + 1, after);
  const bool has_more = views.size() > static_cast<size_t>(limit);
  if (has_more) views.pop_back();
  Json data = Json::array();
  for (const JobView& view : views) data.push_back(ToJson(view));
  call.Answer(200, {{"object", "list"}, {"data", data}, {"has_more", has_more}});
}

void DeleteJob(const Backend& backend, Call& call) {
  const JobView view = backend.service.View(call.owner, call.id);
  if (view.job.HasEnded()) {
    backend.service.Delete(call.owner, call.id);
    call.Answer(200, {{"id", call.id}, {"object", "job.deleted"}, {"deleted", true}});
    return;
  }
  backend.service.Cancel(call.owner, call.id);
  call.Answer(202, ToJson(backend.service.View(call.owner, call.id)));
}

std::string Format(const JobEvent& event) {
  return fmt::format("id: {}\nevent: {}\ndata: {}\n\n", event.number, event.name, event.data);
}

// Of a job that has ended there is one event left.
void AnswerEnd(const Backend& backend, Call& call) {
  const JobEvent event{1, "end", ToJson(backend.service.View(call.owner, call.id)).dump()};
  call.response.set_content(Format(event), "text/event-stream");
}

void StreamEvents(const Backend& backend, Call& call) {
  const auto live = backend.service.FindLive(call.owner, call.id);
  if (live == nullptr) {
    AnswerEnd(backend, call);
    return;
  }
  size_t last = 0;
  const std::string seen = call.request.get_header_value("Last-Event-ID");
  std::from_chars(seen.data(), seen.data() + seen.size(), last);
  call.response.set_chunked_content_provider(
      "text/event-stream", [live, last, waits = 0](size_t, httplib::DataSink& sink) mutable {
        const std::vector<JobEvent> events = live->EventsAfter(last, kEventWait);
        std::string text;
        for (const JobEvent& event : events) {
          text += Format(event);
          last = event.number;
        }
        if (text.empty() && live->HasEnded()) {
          sink.done();
          return true;
        }
        if (text.empty() && ++waits % kWaitsPerHeartbeat == 0) text = ": still here\n\n";
        return text.empty() ? sink.is_writable() : sink.write(text.data(), text.size());
      });
}

// An open file of the output folder.
class ResultFile {
 public:
  explicit ResultFile(const std::filesystem::path& path)
      : descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) {
    struct stat status {};
    if (descriptor_ < 0 || fstat(descriptor_, &status) != 0) {
      if (descriptor_ >= 0) close(descriptor_);
      throw NotFound("id: the result is not there any more", "result_not_found");
    }
    size_ = static_cast<size_t>(status.st_size);
  }
  ~ResultFile() { close(descriptor_); }
  ResultFile(const ResultFile&) = delete;
  ResultFile& operator=(const ResultFile&) = delete;

  size_t size() const { return size_; }
  std::string Read(size_t offset, size_t count) const {
    std::string bytes(count, '\0');
    const ssize_t got = pread(descriptor_, bytes.data(), count, static_cast<off_t>(offset));
    bytes.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return bytes;
  }

 private:
  int descriptor_;
  size_t size_ = 0;
};

struct ByteRange {
  size_t first = 0;
  size_t count = 0;
};

// One range, "bytes=0-99", "bytes=100-" or "bytes=-100", as players of films ask for. Nothing:
// none, or another form, which a server may leave aside. Throws 416 beyond the end.
std::optional<ByteRange> RangeOf(const Call& call, size_t size) {
  const std::string header = call.request.get_header_value("Range");
  constexpr std::string_view kUnit = "bytes=";
  const size_t dash = header.find('-');
  if (!header.starts_with(kUnit) || dash == std::string::npos) return std::nullopt;
  const auto number = [&](size_t begin, size_t end) -> std::optional<size_t> {
    size_t value = 0;
    const auto [stop, error] = std::from_chars(header.data() + begin, header.data() + end, value);
    return error == std::errc() && stop == header.data() + end ? std::optional(value)
                                                               : std::nullopt;
  };
  const auto first = number(kUnit.size(), dash), last = number(dash + 1, header.size());
  const bool is_open = dash + 1 == header.size();
  if (dash == kUnit.size() && last) {
    const size_t count = std::min(*last, size);
    return ByteRange{size - count, count};
  }
  if (!first || (!last && !is_open) || (last && *last < *first)) return std::nullopt;
  if (*first >= size) {
    throw ApiError(416, fmt::format("Range: the result has {} bytes", size),
                   "invalid_request_error", "range_not_satisfiable");
  }
  return ByteRange{*first, std::min(last.value_or(size - 1), size - 1) - *first + 1};
}

void AnswerResult(const Backend& backend, Call& call) {
  const Job job = backend.service.View(call.owner, call.id).job;
  const auto index = static_cast<size_t>(QueryNumber(call, "index", 0, 1000).value_or(0));
  if (index >= job.files.size()) {
    throw NotFound(fmt::format("index: the job has {} results", job.files.size()),
                   "result_not_found");
  }
  const auto file =
      std::make_shared<ResultFile>(backend.service.output_folder() / job.files[index]);
  ByteRange range{0, file->size()};
  call.response.set_header("Accept-Ranges", "bytes");
  if (const auto asked = RangeOf(call, file->size()); asked && asked->count > 0) {
    range = *asked;
    call.response.status = 206;
    call.response.set_header(
        "Content-Range",
        fmt::format("bytes {}-{}/{}", range.first, range.first + range.count - 1, file->size()));
  }
  call.response.set_content_provider(
      range.count, ContentType(job.settings.format),
      [file, first = range.first](size_t offset, size_t length, httplib::DataSink& sink) {
        const std::string bytes = file->Read(first + offset, std::min(length, kPiece));
        return !bytes.empty() && sink.write(bytes.data(), bytes.size());
      });
}

}  // namespace

void AddJobRoutes(std::vector<Route>& routes, const Backend& backend) {
  const auto add = [&](const char* method, const char* path, auto handler) {
    routes.push_back({.method = method,
                      .path = path,
                      .needs_key = backend.needs_key,
                      .handler = [backend, handler](Call& call) { handler(backend, call); }});
  };
  add("GET", "/v1/jobs", ListJobs);
  add("GET", "/v1/jobs/{id}", [](const Backend& back, Call& call) {
    call.Answer(200, ToJson(back.service.View(call.owner, call.id)));
  });
  add("DELETE", "/v1/jobs/{id}", DeleteJob);
  add("GET", "/v1/jobs/{id}/events", StreamEvents);
  add("GET", "/v1/jobs/{id}/content", AnswerResult);
  add("GET", "/v1/videos/{id}/content", [](const Backend& back, Call& call) {
    CheckIsVideo(back.service.View(call.owner, call.id));
    AnswerResult(back, call);
  });
}

}  // namespace tamias::serve
