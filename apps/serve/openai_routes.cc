// OpenAI's pictures and films. Fields beyond theirs: seed, steps, profile, sparsity,
// negative_prompt, true_cfg_scale, true_cfg_scale_2, guidance_scale, max_sequence_length, frames,
// fps, wait. A film's picture comes as OpenAI's clients send it, in a form, or in JSON.
#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "api_error.h"
#include "backend.h"
#include "base64.h"
#include "request_fields.h"

namespace tamias::serve {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaxSide = 32768;
constexpr int kMaxFrames = 100000;
constexpr const char* kPicture = "input_reference";  // OpenAI's name of it

std::optional<int> AsInt(std::optional<int64_t> value) {
  return value ? std::optional(static_cast<int>(*value)) : std::nullopt;
}

// "512x768" or "auto".
void ReadSize(RequestFields& fields, JobRequest& request) {
  const auto size = fields.Text("size", 32);
  if (!size || *size == "auto") return;
  const size_t cross = size->find('x');
  const auto side = [&](const std::string& text) {
    const bool is_number = !text.empty() && text.size() <= 5 &&
                           text.find_first_not_of("0123456789") == std::string::npos;
    const int pixels = is_number ? std::stoi(text) : 0;
    if (pixels < 1 || pixels > kMaxSide) {
      throw InvalidRequest("size",
                           fmt::format("size: expected WIDTHxHEIGHT or auto, found '{}'", *size));
    }
    return pixels;
  };
  request.width = side(size->substr(0, cross));
  request.height = side(cross == std::string::npos ? "" : size->substr(cross + 1));
}

// What pictures and films have in common.
JobRequest ReadCommon(RequestFields& fields, const Limits& limits) {
  JobRequest request;
  const auto prompt = fields.Text("prompt", limits.max_prompt_bytes);
  if (!prompt) throw InvalidRequest("prompt", "prompt: expected a text, found none", "missing");
  request.prompt = *prompt;
  request.model = fields.Text("model", 256).value_or("");
  request.negative_prompt = fields.Text("negative_prompt", limits.max_prompt_bytes).value_or("");
  ReadSize(fields, request);
  request.steps = AsInt(fields.Whole("steps", 1, limits.max_steps));
  request.seed = fields.Seed("seed");
  request.true_cfg_scale = fields.Number("true_cfg_scale", 0, 100);
  request.guidance_scale = fields.Number("guidance_scale", 0, 100);
  request.max_sequence_length = AsInt(fields.Whole("max_sequence_length", 1, 4096));
  request.profile = fields.Text("profile", 256).value_or("auto");
  request.overrides = fields.Assignments("sparsity");
  fields.Ignore({"user"});
  return request;
}

JobRequest ReadImageRequest(RequestFields& fields, const Limits& limits) {
  JobRequest request = ReadCommon(fields, limits);
  request.n = AsInt(fields.Whole("n", 1, limits.max_n)).value_or(1);
  request.format = fields.OneOf("output_format", {"png", "jpeg", "webp"}).value_or("png");
  request.quality = AsInt(fields.Whole("output_compression", 1, 100)).value_or(90);
  fields.Ignore({"quality", "style", "background", "moderation"});
  return request;
}

constexpr double kLeastSeconds = 0.01, kMostSeconds = 600;

// "4" or 4, as OpenAI's clients send either.
std::optional<double> ReadSeconds(RequestFields& fields) {
  const nlohmann::json* value = fields.Find("seconds");
  if (value == nullptr || !value->is_string()) {
    return fields.Number("seconds", kLeastSeconds, kMostSeconds);
  }
  const auto& text = value->get_ref<const std::string&>();
  double seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || end != text.data() + text.size() || !(seconds >= kLeastSeconds) ||
      seconds > kMostSeconds) {
    throw InvalidRequest("seconds", fmt::format("seconds: expected a number from {} to {}",
                                                kLeastSeconds, kMostSeconds));
  }
  return seconds;
}

JobRequest ReadVideoRequest(RequestFields& fields, const Limits& limits) {
  JobRequest request = ReadCommon(fields, limits);
  request.is_video = true;
  request.picture = fields.File(kPicture, limits.max_picture_bytes);
  request.seconds = ReadSeconds(fields);
  request.num_frames = AsInt(fields.Whole("frames", 1, kMaxFrames));
  request.fps = fields.Number("fps", 0.01, 1000);
  request.true_cfg_scale_2 = fields.Number("true_cfg_scale_2", 0, 100);
  if (request.seconds && request.num_frames) {
    throw InvalidRequest("seconds", "seconds: stands beside frames, expected one of them");
  }
  return request;
}

// Results as a client outside this machine can fetch them.
std::string Url(const Call& call, const std::string& path) {
  const std::string host = call.request.get_header_value("Host");
  return host.empty() ? path : "http://" + host + path;
}

void GenerateImages(const Backend& backend, Call& call) {
  RequestFields fields(call.body);
  const JobRequest request = ReadImageRequest(fields, backend.checker.limits());
  const bool waits = fields.Flag("wait").value_or(true);
  const std::string format =
      fields.OneOf("response_format", {"b64_json", "url"}).value_or("b64_json");
  fields.RefuseOthers();
  const JobSettings settings = backend.checker.Complete(request);
  const auto live = backend.service.Submit(settings, call.owner, /*is_kept=*/!waits);
  const Job taken = live->job();
  if (!waits) {
    call.response.set_header("Location", "/v1/jobs/" + taken.id);
    call.Answer(202, ToJson(backend.service.View(call.owner, taken.id)));
    return;
  }
  const Job job = WaitFor(backend, live, call);
  Json data = Json::array();
  for (size_t i = 0; i < job.files.size(); ++i) {
    if (format == "url") {
      data.push_back({{"url", Url(call, ContentPath(job.id, static_cast<int>(i)))}});
    } else {
      data.push_back({{"b64_json", Base64(ReadResult(backend, job, i))}});
    }
  }
  call.Answer(200, {{"created", job.created_at},
                    {"data", data},
                    {"id", job.id},
                    {"steps", job.steps},
                    {"settings", ToJson(job.settings)}});
}

// OpenAI's video object.
Json VideoJson(const JobView& view) {
  const Job& job = view.job;
  const JobSettings& settings = job.settings;
  // Their clients know four states.
  const bool is_cancelled = job.status == JobStatus::kCancelled;
  Json json = {
      {"id", job.id},
      {"object", "video"},
      {"model", settings.model},
      {"status", is_cancelled ? "failed" : Name(job.status)},
      {"progress", static_cast<int>(std::floor(100 * Share(view)))},
      {"created_at", job.created_at},
      {"completed_at", job.status == JobStatus::kCompleted ? Json(job.finished_at) : Json()},
      {"size", fmt::format("{}x{}", settings.width, settings.height)},
      {"seconds", fmt::format("{:.2f}", settings.num_frames / settings.fps)},
      {"prompt", settings.prompt},
      {"settings", ToJson(settings)}};
  json["error"] = job.error_code.empty()
                      ? Json()
                      : Json{{"code", job.error_code}, {"message", job.error_message}};
  return json;
}

JobView ViewOfVideo(const Backend& backend, const Call& call) {
  JobView view = backend.service.View(call.owner, call.id);
  CheckIsVideo(view);
  return view;
}

void GenerateVideo(const Backend& backend, Call& call) {
  RequestFields fields = call.form_type.empty()
                             ? RequestFields(call.body)
                             : RequestFields(ReadForm(call.body, call.form_type), kPicture);
  const JobRequest request = ReadVideoRequest(fields, backend.checker.limits());
  fields.RefuseOthers();
  const JobSettings settings = backend.checker.Complete(request);
  const auto live = backend.service.Submit(settings, call.owner, /*is_kept=*/true, request.picture);
  const std::string id = live->job().id;
  call.response.set_header("Location", "/v1/videos/" + id);
  call.Answer(202, VideoJson(backend.service.View(call.owner, id)));
}

void DeleteVideo(const Backend& backend, Call& call) {
  const JobView view = ViewOfVideo(backend, call);
  if (!view.job.HasEnded()) {
    backend.service.Cancel(call.owner, call.id);
  } else {
    backend.service.Delete(call.owner, call.id);
  }
  call.Answer(200, {{"id", call.id}, {"object", "video.deleted"}, {"deleted", true}});
}

}  // namespace

void AddOpenAiRoutes(std::vector<Route>& routes, const Backend& backend) {
  const auto add = [&](const char* method, const char* path, auto handler) {
    routes.push_back({.method = method,
                      .path = path,
                      .needs_key = backend.needs_key,
                      .handler = [backend, handler](Call& call) { handler(backend, call); }});
  };
  add("GET", "/v1/models",
      [](const Backend& back, Call& call) { call.Answer(200, back.checker.catalog().List()); });
  add("POST", "/v1/images/generations", GenerateImages);
  add("POST", "/v1/videos", GenerateVideo);
  // A picture of JSON takes four thirds of its bytes.
  const Limits& limits = backend.checker.limits();
  routes.back().max_body_bytes = limits.max_body_bytes + (limits.max_picture_bytes + 2) / 3 * 4;
  routes.back().takes_forms = true;
  add("GET", "/v1/videos/{id}", [](const Backend& back, Call& call) {
    call.Answer(200, VideoJson(ViewOfVideo(back, call)));
  });
  add("DELETE", "/v1/videos/{id}", DeleteVideo);
}

}  // namespace tamias::serve
