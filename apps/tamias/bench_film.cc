// `tamias bench hunyuan-720p`, `wan-720p` and `mochi-480p`: the attention of one layer at the full
// number of tokens, for a subset of its heads, with random activations, through the same sparsity
// layer as a generation (column selection, masks and caches included); the layer's linear layers
// for a subset of the tokens; and what both come to over the steps, layers and heads of the whole
// model, a projection that leaves out norms, text encoders and the decoder.
#include "bench_film.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "bench.h"
#include "fail.h"
#include "tamias/ops/attention.h"
#include "tamias/ops/linear.h"
#include "tamias/sparsity/config.h"
#include "tamias/sparsity/schedule.h"
#include "tamias/sparsity/sparse_session.h"

namespace tamias::cli {
namespace {

constexpr int64_t kLinearRows = 512;  // tokens that stand for all in a matrix product
constexpr int kSparseSteps = 3;       // of each round

// Seconds of one layer's attention, for the heads measured.
struct AttentionSeconds {
  double dense = 0;
  double full = 0;    // dense, columns chosen, caches filled
  double sparse = 0;  // the chosen columns only
  double sparsity = 0;
};

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double SecondsOf(const std::function<void()>& work) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

SparseGeometry GeometryOf(const FilmModel& model, int64_t heads) {
  SparseGeometry geometry;
  geometry.text_tokens = model.text_tokens;
  geometry.grid = model.grid;
  geometry.num_layers = 1;
  geometry.num_heads = heads;
  geometry.head_dim = model.head_dim;
  return geometry;
}

// The published settings for one layer that is not among the first dense ones, after its two full
// steps.
SparsityConfig OneLayer(SparsityConfig config) {
  config.mlp.is_enabled = false;
  config.step_caching.is_enabled = false;
  config.attn.first_n_dense_layers = 0;
  config.attn.full_step_schedule.emplace();
  return config;
}

AttentionSeconds MeasureAttention(Context& context, const FilmModel& model,
                                  const SparsityConfig& config, const BenchOptions& options) {
  const SparseGeometry geometry = GeometryOf(model, options.heads);
  const Shape shape = {1, options.heads, geometry.joint_tokens(), model.head_dim};
  const Tensor query = RandomTensor(shape, 1);
  const Tensor key = RandomTensor(shape, 2);
  const Tensor value = RandomTensor(shape, 3);
  const AttentionInputs inputs{query, key, value,
                               1 / std::sqrt(static_cast<float>(model.head_dim))};
  Tensor output(shape, DType::kF32);

  std::vector<double> dense, full, sparse;
  AttentionSeconds seconds;
  for (int round = 0; round < options.repeats; ++round) {
    dense.push_back(SecondsOf([&] { DenseAttention(context, inputs, output); }));
    SparseSession session(config, geometry);
    for (int step = 0; step < 2 + kSparseSteps; ++step) {
      session.BeginStep(step);
      const double time =
          SecondsOf([&] { session.invocation(0).Attention(context, 0, inputs, output); });
      session.EndStep();
      // The first step is dense attention that keeps its log-sum-exp.
      (step == 0 ? dense : step == 1 ? full : sparse).push_back(time);
    }
    seconds.sparsity = session.report().steps.back().Attention().Sparsity();
  }
  seconds.dense = Median(dense);
  seconds.full = Median(full);
  seconds.sparse = Median(sparse);
  return seconds;
}

// Of kLinearRows tokens through all linear layers of one layer.
double MeasureLinears(Context& context, const FilmModel& model, int repeats) {
  double seconds = 0;
  for (const auto& [inputs, outputs] : model.linears) {
    const Tensor input = RandomTensor({1, kLinearRows, inputs}, 1);
    const Tensor weight =
        RandomTensor({outputs, inputs}, 2, 1 / std::sqrt(static_cast<float>(inputs)));
    Tensor output({1, kLinearRows, outputs}, DType::kF32);
    seconds +=
        MedianSeconds(repeats, {[&] { Linear(context, input, weight, {}, output); }}).front();
  }
  return seconds;
}

double LinearFlopsPerToken(const FilmModel& model) {
  double flops = 0;
  for (const auto& [inputs, outputs] : model.linears) {
    flops += 2 * static_cast<double>(inputs) * static_cast<double>(outputs);
  }
  return flops;
}

// Seconds of all attention, and of everything, over the steps of a generation.
struct Projection {
  double attention = 0;
  double total = 0;
  int64_t full_steps = 0;
  int64_t sparse_steps = 0;
};

Projection Project(const FilmModel& model, const SparsityConfig& config, bool is_sparse,
                   double heads_measured, const AttentionSeconds& seconds, double linear_seconds) {
  const StepSchedule schedule(config);
  const double heads = static_cast<double>(model.num_heads) / heads_measured;
  const auto layers = static_cast<double>(model.num_layers);
  const auto dense_layers =
      static_cast<double>(std::min(config.attn.first_n_dense_layers, model.num_layers));
  Projection projection;
  bool is_first = true;
  for (int64_t step = 0; step < config.steps; ++step) {
    const StepPlan plan = schedule.At(step);
    if (is_sparse && plan.is_skipped) continue;
    double one = seconds.dense;  // of a layer that is not always dense
    if (is_sparse && !is_first) one = plan.attention_is_full ? seconds.full : seconds.sparse;
    ++(is_sparse && !plan.attention_is_full ? projection.sparse_steps : projection.full_steps);
    is_first = false;
    const double attention = heads * (dense_layers * seconds.dense + (layers - dense_layers) * one);
    projection.attention += static_cast<double>(model.calls) * attention;
    projection.total += static_cast<double>(model.calls) * (attention + layers * linear_seconds);
  }
  return projection;
}

FilmModel WithFrames(FilmModel model, std::optional<int64_t> asked) {
  if (!asked) return model;
  const int64_t frames = *asked;
  const int64_t most = (model.grid.time - 1) * model.frame_multiple + 1;
  if (frames < 1 || frames > most || (frames - 1) % model.frame_multiple != 0) {
    Fail(ErrorCode::kInvalidArgument,
         "frames: expected 1 to {}, one more than a multiple of {}, found {}", most,
         model.frame_multiple, frames);
  }
  model.grid.time = (frames - 1) / model.frame_multiple + 1;
  return model;
}

std::vector<Measurement> AttentionRows(const FilmModel& model, int64_t heads,
                                       const AttentionSeconds& attention, double peak_gflops) {
  const auto keys = static_cast<double>(model.text_tokens + model.grid.size());
  const double flops =
      4 * static_cast<double>(heads) * keys * keys * static_cast<double>(model.head_dim);
  const std::string shape = fmt::format("{} of {} heads, N {} + {}, D {}", heads, model.num_heads,
                                        model.grid.size(), model.text_tokens, model.head_dim);
  // work: as a share of dense attention.
  const auto row = [&](std::string name, double seconds, double work) {
    const double gflops = flops * work / seconds * 1e-9;
    const double speedup = attention.dense / seconds;
    return Measurement{std::move(name),      shape,   seconds,       gflops,
                       gflops / peak_gflops, speedup, speedup * work};
  };
  return {row("dense attention", attention.dense, 1),
          row("full step, columns chosen", attention.full, 2 - attention.sparsity),
          row(fmt::format("sparse step, {:.1f} % left out", 100 * attention.sparsity),
              attention.sparse, 1 - attention.sparsity)};
}

Measurement LinearRow(const FilmModel& model, double seconds, double peak_gflops) {
  const double gflops =
      static_cast<double>(kLinearRows) * LinearFlopsPerToken(model) / seconds * 1e-9;
  return {"linear layers",
          fmt::format("{} tokens of one layer", kLinearRows),
          seconds,
          gflops,
          gflops / peak_gflops,
          std::nullopt,
          std::nullopt};
}

// Attention and model over a generation: dense, sparse and, where the profile skips steps, both.
std::vector<Measurement> ProjectionRows(const FilmModel& model, const SparsityConfig& config,
                                        int64_t heads, const AttentionSeconds& attention,
                                        double linear_seconds) {
  SparsityConfig every_step = config;
  every_step.step_caching.is_enabled = false;
  const auto project = [&](const SparsityConfig& of, bool is_sparse) {
    return Project(model, of, is_sparse, static_cast<double>(heads), attention, linear_seconds);
  };
  const Projection dense = project(every_step, false);
  std::vector<Measurement> rows;
  const auto add = [&](const char* name, const Projection& one) {
    const std::string steps =
        fmt::format("{} full + {} sparse steps", one.full_steps, one.sparse_steps);
    rows.push_back({fmt::format("projection: attention, {}", name), steps, one.attention, 0,
                    std::nullopt, dense.attention / one.attention, std::nullopt});
    rows.push_back({fmt::format("projection: model, {}", name), steps, one.total, 0, std::nullopt,
                    dense.total / one.total, std::nullopt});
  };
  add("dense", dense);
  add("sparse", project(every_step, true));
  if (config.step_caching.is_enabled) add("sparse and skipping", project(config, true));
  return rows;
}

}  // namespace

std::span<const FilmModel> FilmModels() {
  static const FilmModel models[] = {
      {.name = "hunyuan-720p",
       .title = "HunyuanVideo, 1280x720",
       .profile = "hunyuan-video",
       .grid = {33, 45, 80},
       .frame_multiple = 4,
       .text_tokens = 256,
       .num_layers = 60,
       .num_heads = 24,
       .head_dim = 128,
       .calls = 1,
       .linears = {{3072, 9216}, {3072, 3072}, {3072, 12288}, {12288, 3072}}},
      {.name = "wan-720p",
       .title = "Wan 2.1 14B, 1280x720",
       .profile = "wan-2.1",
       .grid = {21, 45, 80},
       .frame_multiple = 4,
       .text_tokens = 0,  // cross-attention stays dense
       .num_layers = 40,
       .num_heads = 40,
       .head_dim = 128,
       .calls = 2,
       .linears =
           {{5120, 15360}, {5120, 5120}, {5120, 5120}, {5120, 5120}, {5120, 13824}, {13824, 5120}}},
      {.name = "mochi-480p",
       .title = "Mochi 1, 848x480",
       .profile = "mochi",
       .grid = {28, 30, 53},
       .frame_multiple = 6,
       .text_tokens = 256,
       .num_layers = 48,
       .num_heads = 24,
       .head_dim = 128,
       .calls = 2,
       .linears = {{3072, 9216}, {3072, 3072}, {3072, 16384}, {8192, 3072}}},
  };
  return models;
}

std::vector<Measurement> BenchFilm(const FilmModel& published, const BenchOptions& options,
                                   double peak_gflops) {
  const FilmModel model = WithFrames(published, options.frames);
  if (options.heads < 1 || options.heads > model.num_heads) {
    Fail(ErrorCode::kInvalidArgument, "heads: expected 1 to {}, found {}", model.num_heads,
         options.heads);
  }
  const SparsityConfig config = LoadSparsityConfig(FindProfile(model.profile));
  Context context(options.threads);
  const AttentionSeconds attention = MeasureAttention(context, model, OneLayer(config), options);
  const double linear = MeasureLinears(context, model, options.repeats);
  const auto tokens = static_cast<double>(model.text_tokens + model.grid.size());

  std::vector<Measurement> rows = AttentionRows(model, options.heads, attention, peak_gflops);
  rows.push_back(LinearRow(model, linear, peak_gflops));
  std::ranges::move(ProjectionRows(model, config, options.heads, attention,
                                   linear * tokens / static_cast<double>(kLinearRows)),
                    std::back_inserter(rows));
  return rows;
}

}  // namespace tamias::cli
