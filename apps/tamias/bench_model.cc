// `tamias bench model`: whole denoising steps of a checkpoint, dense against accelerated.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "bench.h"
#include "tamias/pipeline.h"

namespace tamias::cli {
namespace {

constexpr int kSteps = 12;  // 10 is the published distance between full steps

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// The seconds of each step of a kind, added to what is there.
void Collect(const GenerateResult& result, const std::string& kind, std::vector<double>& seconds) {
  const auto report = nlohmann::json::parse(result.report_json);
  for (const auto& step : report.at("steps")) {
    if (step.at("kind") == kind) seconds.push_back(step.at("seconds"));
  }
}

GenerateOptions StepsWith(const std::string& sparsity, const BenchOptions& options) {
  GenerateOptions generate;
  generate.prompt = "a large red circle at the center on a grey background";
  generate.steps = kSteps;
  generate.threads = options.threads;
  generate.decode = false;
  generate.sparsity = sparsity;
  return generate;
}

}  // namespace

void CheckModel(const Pipeline& pipeline, const BenchOptions& options) {
  pipeline.PlanMemory(StepsWith(options.sparsity_profile, options));
}

std::vector<Measurement> BenchModel(const Pipeline& pipeline, const BenchOptions& options) {
  const GenerateOptions dense = StepsWith("off", options);
  const GenerateOptions accelerated = StepsWith(options.sparsity_profile, options);

  std::vector<double> dense_seconds;
  std::vector<double> full_seconds;
  std::vector<double> sparse_seconds;
  for (int round = 0; round < options.repeats; ++round) {
    Collect(pipeline.Generate(dense), "full", dense_seconds);
    const GenerateResult result = pipeline.Generate(accelerated);
    Collect(result, "full", full_seconds);
    Collect(result, "sparse", sparse_seconds);
  }
  const std::string shape = fmt::format("{} image + {} text tokens", pipeline.NumImageTokens(dense),
                                        pipeline.NumTextTokens(dense));
  const double dense_median = Median(dense_seconds);
  std::vector<Measurement> measurements;
  const auto add = [&](const char* name, const std::vector<double>& seconds) {
    if (seconds.empty()) return;
    const double median = Median(seconds);
    measurements.push_back(
        {name, shape, median, 0, std::nullopt, dense_median / median, std::nullopt});
  };
  add("model step, dense", dense_seconds);
  add("model step, accelerated, full", full_seconds);
  add("model step, accelerated, sparse", sparse_seconds);
  return measurements;
}

}  // namespace tamias::cli
