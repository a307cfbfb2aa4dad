// The order in which Tune tries settings.
//
// Likeness falls with every skipped step and every column left out. So the settings that just keep
// the floor lie on a staircase through the table of periods and densities, and walking down it from
// the boldest skipping meets them all in at most nine runs. Two more try, for the fastest, the
// other forms of what skipped steps reuse and of how the stale part of attention is merged: which
// is more alike depends on the model.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/tune_settings.h"
#include "tamias/tune.h"

namespace tamias {

class TuneSearch {
 public:
  // The profile in force with a choice, as YAML; "" where nothing differs from dense.
  using ProfileOf = std::function<std::string(const TuneChoice& choice)>;
  // Runs a choice whose profile is in force.
  using Run = std::function<TuneTrial(const TuneChoice& choice, const std::string& profile)>;

  TuneSearch(ProfileOf profile_of, Run run);

  // Runs settings, none twice. The fastest of the trials that are alike; nothing where none is.
  std::optional<size_t> FindFastest();
  const std::vector<TuneTrial>& trials() const { return trials_; }

 private:
  // Whether the choice keeps the floor. Runs it, unless it does the same as one that was run, or as
  // dense.
  bool IsAlike(const TuneChoice& choice);
  void WalkStaircase();
  void TryOtherReuse(size_t of);
  void TryOtherMerge(size_t of);

  ProfileOf profile_of_;
  Run run_;
  std::vector<TuneTrial> trials_;
  std::vector<TuneChoice> choices_;    // of the trials
  std::vector<std::string> in_force_;  // SettingInForce of the trials
};

}  // namespace tamias
