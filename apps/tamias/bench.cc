// `tamias bench`: the operations and the model on this machine, as ratios to our own dense, to what
// arithmetic allows and to the machine's FMA peak, all measured in one run.
#include "bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

#include "bench_film.h"
#include "commands.h"
#include "fail.h"
#include "number_options.h"
#include "tamias/context.h"
#include "tamias/fma_peak.h"
#include "tamias/machine.h"
#include "tamias/random.h"

namespace tamias::cli {
namespace {

constexpr char kExamples[] = R"(Examples:
  tamias bench all --model models/demo-flux
  tamias bench attention --shape flux-1280x768
  tamias bench attention --tokens 7680 --heads 1 --head-dim 128 --sparsity 0.93
  tamias bench mlp --tokens 4096 --model-dim 768 --mlp-dim 3072 --sparsity 0.7 --json
  tamias bench hunyuan-720p
  tamias bench wan-720p --heads 2 --frames 41

Shapes by name: demo-512, flux-1280x768, flux-2304x1280 and hunyuan-720p. The large ones run on the
subset of heads (and, for hunyuan-720p, of query groups) that the shape column states.

hunyuan-720p, wan-720p and mochi-480p run one layer's attention at full size, dense and with the
published settings, on a subset of its heads (minutes of work), and project that to the model.)";

nlohmann::ordered_json ToJson(const Measurement& measurement) {
  const auto number = [](const std::optional<double>& value) {
    return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
  };
  return {{"name", measurement.name},
          {"shape", measurement.shape},
          {"seconds", measurement.seconds},
          {"gflops", measurement.gflops},
          {"peak_fraction", number(measurement.peak_fraction)},
          {"speedup_over_dense", number(measurement.speedup_over_dense)},
          {"arithmetic_fraction", number(measurement.arithmetic_fraction)}};
}

// "12.34 ms", "56.78 s", "9.0 h"
std::string Duration(double seconds) {
  if (seconds < 10) return fmt::format("{:.2f} ms", 1e3 * seconds);
  if (seconds < 7200) return fmt::format("{:.2f} s", seconds);
  return fmt::format("{:.1f} h", seconds / 3600);
}

void PrintTable(const std::vector<Measurement>& measurements, double peak_gflops) {
  size_t name_width = 0;
  size_t shape_width = 0;
  for (const Measurement& m : measurements) {
    name_width = std::max(name_width, m.name.size() + 2);
    shape_width = std::max(shape_width, m.shape.size());
  }
  fmt::print("{}, {}; FMA peak measured now: {:.0f} GFLOP/s\n\n", MachineName(), SimdTargetName(),
             peak_gflops);
  fmt::print("{:<{}}{:<{}}{:>13}{:>9}{:>8}{:>10}{:>12}\n", "", name_width, "shape", shape_width,
             "time", "GFLOP/s", "peak", "vs dense", "arithmetic");
  const auto percent = [](const std::optional<double>& value) {
    return value ? fmt::format("{:.0f} %", 100 * *value) : std::string("-");
  };
  for (const Measurement& m : measurements) {
    fmt::print("{:<{}}{:<{}}{:>13}{:>9}{:>8}{:>10}{:>12}\n", m.name, name_width, m.shape,
               shape_width, Duration(m.seconds),
               m.gflops > 0 ? fmt::format("{:.0f}", m.gflops) : "-", percent(m.peak_fraction),
               m.speedup_over_dense ? fmt::format("{:.2f}x", *m.speedup_over_dense) : "-",
               percent(m.arithmetic_fraction));
  }
}

void PrintJson(const std::vector<Measurement>& measurements) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const Measurement& measurement : measurements) json.push_back(ToJson(measurement));
  fmt::print("{}\n", json.dump(2));
}

void CheckRun(const BenchOptions& options) {
  constexpr int kMaxThreads = 1024;
  if (options.threads < 0 || options.threads > kMaxThreads) {
    Fail(ErrorCode::kInvalidArgument, "threads: expected 0 to {}, found {}", kMaxThreads,
         options.threads);
  }
  if (options.repeats < 1 || options.repeats > 1000) {
    Fail(ErrorCode::kInvalidArgument, "repeats: expected 1 to 1000, found {}", options.repeats);
  }
}

void RunFilm(const FilmModel& model, const BenchOptions& options) {
  CheckRun(options);
  const double peak = FmaPeakGflops(Context(options.threads).threads());
  const std::vector<Measurement> measurements = BenchFilm(model, options, peak);
  if (options.json) {
    PrintJson(measurements);
    return;
  }
  fmt::print("{}: one layer, random activations, profile {}\n", model.title, model.profile);
  PrintTable(measurements, peak);
  fmt::print(
      "\nProjections: these times over all steps, calls, layers and heads; without norms, text "
      "encoders and decoder.\n");
}

void Run(const std::string& what, const BenchOptions& options) {
  CheckRun(options);
  for (const double sparsity : options.sparsities) {
    if (!(sparsity >= 0 && sparsity < 1)) {
      Fail(ErrorCode::kInvalidArgument, "sparsity: expected a share from 0 to below 1, found {}",
           sparsity);
    }
  }
  std::optional<Pipeline> pipeline;
  if (what == "model" || what == "all") {
    if (options.model.empty()) {
      Fail(ErrorCode::kInvalidArgument, "bench {}: --model DIR is needed", what);
    }
    pipeline.emplace(options.model);
    CheckModel(*pipeline, options);
  }
  const Context context(options.threads);
  const double peak = FmaPeakGflops(context.threads());
  std::vector<Measurement> measurements;
  const auto append = [&](std::vector<Measurement> more) {
    std::ranges::move(more, std::back_inserter(measurements));
  };
  if (what == "attention" || what == "all") append(BenchAttention(options, peak));
  if (what == "mlp" || what == "all") append(BenchMlp(options, peak));
  if (pipeline) append(BenchModel(*pipeline, options));
  if (!options.json) {
    PrintTable(measurements, peak);
    return;
  }
  PrintJson(measurements);
}

void AddCommonOptions(CLI::App& command, BenchOptions& options) {
  AddNumber(command, "--threads", options.threads,
            "Threads; 0: one per CPU that the process may use")
      ->type_name("T")
      ->default_str("0");
  AddNumber(command, "--repeats", options.repeats, "Rounds; medians are reported")
      ->type_name("R")
      ->default_str(fmt::format("{}", options.repeats));
  command.add_flag("--json", options.json, "Print a JSON list on standard output");
}

void AddFilmCommand(CLI::App& bench, const FilmModel& model) {
  CLI::App* command = bench.add_subcommand(
      model.name, fmt::format("One attention layer of {} at full size", model.title));
  auto options = std::make_shared<BenchOptions>();
  options->repeats = 1;
  AddNumber(*command, "--heads", options->heads, "Heads to run; the others are projected")
      ->type_name("H")
      ->default_str(fmt::format("{}", options->heads));
  AddNumber(*command, "--frames", options->frames, "Frames, for a shorter film")->type_name("N");
  AddCommonOptions(*command, *options);
  command->footer(kExamples);
  command->callback([&model, options] { RunFilm(model, *options); });
}

void AddShapeOptions(CLI::App& command, const std::string& what, BenchOptions& options) {
  CLI::Option* tokens = nullptr;
  if (what != "model") {
    CLI::Option* shape =
        command.add_option("--shape", options.shape, "Shape by name; default demo-512")
            ->type_name("NAME");
    tokens = AddNumber(command, "--tokens", options.tokens, "Tokens, instead of a shape by name")
                 ->type_name("N")
                 ->excludes(shape);
    AddNumbers(command, "--sparsity", options.sparsities,
               "Share of columns left out; may be repeated")
        ->type_name("S");
  }
  // A shape by name has all of its numbers.
  if (what == "attention" || what == "all") {
    AddNumber(command, "--heads", options.heads, "Heads, beside --tokens")
        ->type_name("H")
        ->default_str(fmt::format("{}", options.heads))
        ->needs(tokens);
    AddNumber(command, "--head-dim", options.head_dim, "Head dimension, beside --tokens")
        ->type_name("D")
        ->default_str(fmt::format("{}", options.head_dim))
        ->needs(tokens);
  }
  if (what == "mlp" || what == "all") {
    AddNumber(command, "--model-dim", options.model_dim, "Model width, beside --tokens")
        ->type_name("D")
        ->default_str(fmt::format("{}", options.model_dim))
        ->needs(tokens);
    AddNumber(command, "--mlp-dim", options.mlp_dim,
              "Neurons, beside --tokens; default four times the width")
        ->type_name("F")
        ->needs(tokens);
  }
  if (what == "model" || what == "all") {
    command.add_option("--model", options.model, "Checkpoint folder")->type_name("DIR");
    command.add_option("--profile", options.sparsity_profile, "Sparsity profile or YAML file")
        ->type_name("PROFILE")
        ->capture_default_str();
  }
  AddCommonOptions(command, options);
}

}  // namespace

std::vector<double> SparsitiesOf(const BenchOptions& options, std::span<const double> defaults) {
  return options.sparsities.empty() ? std::vector<double>(defaults.begin(), defaults.end())
                                    : options.sparsities;
}

Tensor RandomTensor(const Shape& shape, uint64_t seed, float scale) {
  Tensor tensor(shape, DType::kF32);
  const std::span values(tensor.data<float>(), static_cast<size_t>(tensor.NumElements()));
  TorchNormal(seed, values);
  for (float& value : values) value *= scale;
  return tensor;
}

std::vector<double> MedianSeconds(int repeats,
                                  const std::vector<std::function<void()>>& candidates) {
  using Clock = std::chrono::steady_clock;
  std::vector<std::vector<double>> seconds(candidates.size());
  for (int round = -1; round < repeats; ++round) {  // round -1 warms up
    for (size_t i = 0; i < candidates.size(); ++i) {
      const auto start = Clock::now();
      candidates[i]();
      const std::chrono::duration<double> elapsed = Clock::now() - start;
      if (round >= 0) seconds[i].push_back(elapsed.count());
    }
  }
  std::vector<double> medians;
  for (std::vector<double>& one : seconds) {
    const auto middle = one.begin() + static_cast<ptrdiff_t>(one.size() / 2);
    std::nth_element(one.begin(), middle, one.end());
    medians.push_back(*middle);
  }
  return medians;
}

void AddBenchCommand(CLI::App& app) {
  CLI::App* bench = app.add_subcommand("bench", "Measure operations and models on this machine");
  bench->require_subcommand(1);
  bench->footer(kExamples);
  for (const std::string what : {"attention", "mlp", "model", "all"}) {
    CLI::App* command = bench->add_subcommand(
        what, what == "all" ? "All of the others"
                            : fmt::format("The {} alone", what == "mlp" ? "MLP" : what));
    auto options = std::make_shared<BenchOptions>();
    AddShapeOptions(*command, what, *options);
    command->footer(kExamples);
    command->callback([what, options] { Run(what, *options); });
  }
  for (const FilmModel& model : FilmModels()) AddFilmCommand(*bench, model);
}

}  // namespace tamias::cli
