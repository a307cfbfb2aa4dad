// The part of AUTOMATIC1111's web UI API that common front ends use. cfg_scale is classifier-free
// guidance (true_cfg_scale here), distilled_cfg_scale the embedded guidance; samplers, scripts and
// whatever else a front end sends have no effect.
#include <fmt/format.h>

#include "api_error.h"
#include "backend.h"
#include "base64.h"
#include "request_fields.h"

namespace tamias::serve {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaxSide = 32768;

std::optional<int> AsInt(std::optional<int64_t> value) {
  return value ? std::optional(static_cast<int>(*value)) : std::nullopt;
}

// -1 is a seed that is drawn.
std::optional<uint64_t> ReadSeed(RequestFields& fields) {
  const nlohmann::json* value = fields.Find("seed");
  if (value != nullptr && value->is_number_integer() && *value == -1) return std::nullopt;
  return fields.Seed("seed");
}

// {"sd_model_checkpoint": "demo-flux"}
std::string ReadModel(RequestFields& fields) {
  const nlohmann::json* settings = fields.Find("override_settings");
  if (settings == nullptr) return "";
  if (!settings->is_object()) {
    throw InvalidRequest("override_settings", "override_settings: expected an object");
  }
  const auto model = settings->find("sd_model_checkpoint");
  if (model == settings->end() || model->is_null()) return "";
  if (!model->is_string()) {
    throw InvalidRequest("override_settings.sd_model_checkpoint",
                         "override_settings.sd_model_checkpoint: expected a text");
  }
  return model->get<std::string>();
}

JobRequest ReadRequest(RequestFields& fields, const Limits& limits) {
  JobRequest request;
  request.prompt = fields.Text("prompt", limits.max_prompt_bytes).value_or("");
  request.negative_prompt = fields.Text("negative_prompt", limits.max_prompt_bytes).value_or("");
  request.model = ReadModel(fields);
  request.width = AsInt(fields.Whole("width", 1, kMaxSide));
  request.height = AsInt(fields.Whole("height", 1, kMaxSide));
  request.steps = AsInt(fields.Whole("steps", 1, limits.max_steps));
  request.seed = ReadSeed(fields);
  request.true_cfg_scale = fields.Number("cfg_scale", 0, 100);
  request.guidance_scale = fields.Number("distilled_cfg_scale", 0, 100);
  const int batch = AsInt(fields.Whole("batch_size", 1, limits.max_n)).value_or(1);
  const int batches = AsInt(fields.Whole("n_iter", 1, limits.max_n)).value_or(1);
  request.n = batch * batches;
  if (request.n > limits.max_n) {
    throw InvalidRequest(
        "batch_size",
        fmt::format("batch_size: expected at most {} pictures, found {}", limits.max_n, request.n));
  }
  return request;
}

// The text that the web UI shows below a picture.
std::string InfoText(const JobSettings& settings) {
  return fmt::format(
      "{}\nNegative prompt: {}\nSteps: {}, CFG scale: {}, Seed: {}, Size: {}x{}, "
      "Model: {}, Profile: {}",
      settings.prompt, settings.negative_prompt, settings.steps, settings.true_cfg_scale,
      settings.seed, settings.width, settings.height, settings.model, settings.profile);
}

void TextToImage(const Backend& backend, Call& call) {
  RequestFields fields(call.body);
  const JobRequest request = ReadRequest(fields, backend.checker.limits());
  const JobSettings settings = backend.checker.Complete(request);
  const auto live = backend.service.Submit(settings, call.owner, /*is_kept=*/false);
  const Job job = WaitFor(backend, live, call);
  Json images = Json::array();
  for (size_t i = 0; i < job.files.size(); ++i) {
    images.push_back(Base64(ReadResult(backend, job, i)));
  }
  Json texts = Json::array();
  for (int i = 0; i < settings.n; ++i) texts.push_back(InfoText(settings));
  const Json info = {{"prompt", settings.prompt},
                     {"negative_prompt", settings.negative_prompt},
                     {"seed", settings.seed},
                     {"width", settings.width},
                     {"height", settings.height},
                     {"steps", settings.steps},
                     {"cfg_scale", settings.true_cfg_scale},
                     {"sd_model_name", settings.model},
                     {"infotexts", texts}};
  call.Answer(200,
              {{"images", images}, {"parameters", Json::parse(call.body)}, {"info", info.dump()}});
}

void TellProgress(const Backend& backend, Call& call) {
  const auto view = backend.service.Current(call.owner);
  const JobProgress progress = view ? view->progress : JobProgress{};
  call.Answer(200, {{"progress", view ? Share(*view) : 0},
                    {"eta_relative", progress.seconds_left},
                    {"state",
                     {{"skipped", false},
                      {"interrupted", false},
                      {"job", view ? view->job.id : ""},
                      {"job_count", view ? 1 : 0},
                      {"job_no", 0},
                      {"sampling_step", progress.stage == "denoise" ? progress.step : 0},
                      {"sampling_steps", view ? view->job.settings.steps : 0}}},
                    {"current_image", nullptr},
                    {"textinfo", nullptr}});
}

void Interrupt(const Backend& backend, Call& call) {
  if (!call.body.empty()) RequestFields(call.body);  // front ends send an empty object, or nothing
  if (const auto view = backend.service.Current(call.owner)) {
    backend.service.Cancel(call.owner, view->job.id);
  }
  call.Answer(200, Json::object());
}

void ListModels(const Backend& backend, Call& call) {
  Json models = Json::array();
  for (const ServedModel& model : backend.checker.catalog().models()) {
    if (model.makes_videos()) continue;
    models.push_back({{"title", model.id()},
                      {"model_name", model.id()},
                      {"hash", nullptr},
                      {"sha256", nullptr},
                      {"filename", model.id()},
                      {"config", nullptr}});
  }
  call.Answer(200, models);
}

void TellOptions(const Backend& backend, Call& call) {
  std::string first;
  for (const ServedModel& model : backend.checker.catalog().models()) {
    if (first.empty() && !model.makes_videos()) first = model.id();
  }
  call.Answer(200, {{"sd_model_checkpoint", first}});
}

}  // namespace

void AddWebUiRoutes(std::vector<Route>& routes, const Backend& backend) {
  const auto add = [&](const char* method, const char* path, auto handler) {
    routes.push_back({.method = method,
                      .path = path,
                      .needs_key = backend.needs_key,
                      .handler = [backend, handler](Call& call) { handler(backend, call); }});
  };
  add("POST", "/sdapi/v1/txt2img", TextToImage);
  add("GET", "/sdapi/v1/progress", TellProgress);
  add("POST", "/sdapi/v1/interrupt", Interrupt);
  add("GET", "/sdapi/v1/sd-models", ListModels);
  add("GET", "/sdapi/v1/options", TellOptions);
  add("GET", "/sdapi/v1/samplers", [](const Backend&, Call& call) {
    call.Answer(
        200,
        Json::array(
            {{{"name", "Model's own"}, {"aliases", Json::array()}, {"options", Json::object()}}}));
  });
}

}  // namespace tamias::serve
