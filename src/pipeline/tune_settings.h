// The settings that Tune tries: a table of periods and densities, from timid to bold, as changes to
// the profile started from.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sparsity/skip_schedule.h"
#include "tamias/sparsity/config.h"

namespace tamias {

// One of `period` steps is run; which, is chosen from the predictions of the dense run.
constexpr std::array<int, 5> kTunePeriods = {1, 2, 3, 4, 5};

// Shares of key columns and neurons that a sparse step computes; 1: no deltas.
struct TuneDensity {
  double columns;
  double neurons;
};
constexpr std::array<TuneDensity, 5> kTuneDensities = {
    {{1, 1}, {0.35, 0.5}, {0.2, 0.4}, {0.1, 0.3}, {0.05, 0.2}}};

// A place in the table, and the two forms that are tried at the end.
struct TuneChoice {
  size_t period = 0;   // of kTunePeriods
  size_t density = 0;  // of kTuneDensities
  StepReuse reuse = StepReuse::kPrediction;
  std::optional<AttentionMerge> merge = {};  // empty: as the profile has it
};

// The changes that make a choice. traces: of the dense runs, all of the same number of steps;
// restart: as in ChooseRuns.
std::vector<std::string> TuneOverrides(const TuneChoice& choice,
                                       std::span<const PredictionTrace> traces,
                                       int64_t restart = 0);

// What a profile does in a generation of `steps`, in a few words.
std::string DescribeSetting(const SparsityConfig& config, int steps);

// The profile with the keys of parts that are off at their defaults: equal for profiles that do the
// same.
std::string SettingInForce(const SparsityConfig& config);

}  // namespace tamias
