// Choices as assignments to keys of a profile.
#include "pipeline/tune_settings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace tamias {
namespace {

std::vector<int64_t> SkippedSteps(const std::vector<int64_t>& runs, int64_t steps) {
  std::vector<int64_t> skipped;
  for (int64_t step = 0; step < steps; ++step) {
    if (!std::ranges::binary_search(runs, step)) skipped.push_back(step);
  }
  return skipped;
}

// Full steps of attention among those that run. Of all steps: close together at first, never more
// than ten apart. Of few: the first seven, as what strays early strays farthest, then every other.
std::vector<int64_t> FullSteps(const std::vector<int64_t>& runs, int64_t steps) {
  std::vector<int64_t> full;
  if (static_cast<int64_t>(runs.size()) == steps) {
    full = {0, 1, 2, 4, 7, 12};
    for (int64_t step = 20; step < steps; step += 10) full.push_back(step);
    std::erase_if(full, [&](int64_t step) { return step >= steps; });
    return full;
  }
  for (size_t i = 0; i < runs.size(); ++i) {
    if (i < 7 || i % 2 == 0) full.push_back(runs[i]);
  }
  return full;
}

}  // namespace

std::vector<std::string> TuneOverrides(const TuneChoice& choice,
                                       std::span<const PredictionTrace> traces, int64_t restart) {
  const int64_t steps = traces[0].num_steps();
  const int64_t period = kTunePeriods[choice.period];
  const TuneDensity& density = kTuneDensities[choice.density];
  const bool is_sparse = density.columns < 1;
  const std::vector<int64_t> runs =
      ChooseRuns(traces, (steps + period / 2) / period, choice.reuse, restart);
  std::vector<std::string> overrides = {
      fmt::format("steps={}", steps), fmt::format("step_caching.is_enabled={}", period > 1),
      fmt::format("attn.is_enabled={}", is_sparse), fmt::format("mlp.is_enabled={}", is_sparse)};
  if (period > 1) {
    overrides.push_back(fmt::format("step_caching.reuse={}", Name(choice.reuse)));
    overrides.push_back(fmt::format("step_caching.skip_step_schedule=[{}]",
                                    fmt::join(SkippedSteps(runs, steps), ", ")));
  }
  if (is_sparse) {
    overrides.push_back(fmt::format("attn.top_keys={}", density.columns));
    overrides.push_back(
        fmt::format("attn.full_step_schedule=[{}]", fmt::join(FullSteps(runs, steps), ", ")));
    overrides.push_back(fmt::format("mlp.top_keys={}", density.neurons));
  }
  if (choice.merge) overrides.push_back(fmt::format("attn.merge={}", Name(*choice.merge)));
  return overrides;
}

std::string DescribeSetting(const SparsityConfig& config, int steps) {
  std::vector<std::string> parts;
  if (config.step_caching.is_enabled) {
    parts.push_back(fmt::format("{} of {} steps skipped ({})",
                                config.step_caching.skip_step_schedule.size(), steps,
                                Name(config.step_caching.reuse)));
  }
  if (config.attn.is_enabled) {
    parts.push_back(
        fmt::format("columns {:.3g} % {}", 100 * config.attn.top_keys, Name(config.attn.merge)));
  }
  if (config.mlp.is_enabled) {
    parts.push_back(fmt::format("neurons {:.3g} %", 100 * config.mlp.top_keys));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string SettingInForce(const SparsityConfig& config) {
  const SparsityConfig off = SparsityConfig::Dense();
  SparsityConfig setting = config;
  if (!setting.attn.is_enabled) setting.attn = off.attn;
  if (!setting.mlp.is_enabled) setting.mlp = off.mlp;
  if (!setting.step_caching.is_enabled) setting.step_caching = off.step_caching;
  return WriteYaml(setting);
}

}  // namespace tamias
