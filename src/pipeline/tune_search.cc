// The walk, and the trials that it leaves.
#include "pipeline/tune_search.h"

#include <algorithm>
#include <utility>

namespace tamias {
namespace {

SparsityConfig Parsed(const std::string& profile) { return ParseSparsityConfig(profile, "tune"); }

}  // namespace

TuneSearch::TuneSearch(ProfileOf profile_of, Run run)
    : profile_of_(std::move(profile_of)), run_(std::move(run)) {}

std::optional<size_t> TuneSearch::FindFastest() {
  WalkStaircase();
  if (const auto fastest = FastestAlike(trials_)) TryOtherReuse(*fastest);
  if (const auto fastest = FastestAlike(trials_)) TryOtherMerge(*fastest);
  return FastestAlike(trials_);
}

bool TuneSearch::IsAlike(const TuneChoice& choice) {
  const std::string profile = profile_of_(choice);
  if (profile.empty()) return true;
  const std::string in_force = SettingInForce(Parsed(profile));
  const auto known = std::ranges::find(in_force_, in_force);
  if (known != in_force_.end()) {
    return trials_[static_cast<size_t>(known - in_force_.begin())].is_alike;
  }
  trials_.push_back(run_(choice, profile));
  choices_.push_back(choice);
  in_force_.push_back(in_force);
  return trials_.back().is_alike;
}

std::optional<size_t> FastestAlike(std::span<const TuneTrial> trials) {
  std::optional<size_t> fastest;
  for (size_t i = 0; i < trials.size(); ++i) {
    if (!trials[i].is_alike) continue;
    if (!fastest || trials[i].seconds < trials[*fastest].seconds) fastest = i;
  }
  return fastest;
}

void TuneSearch::WalkStaircase() {
  TuneChoice choice;
  choice.period = kTunePeriods.size() - 1;
  while (choice.density < kTuneDensities.size()) {
    if (IsAlike(choice)) {
      ++choice.density;
    } else if (choice.period > 0) {
      --choice.period;
    } else {
      break;
    }
  }
}

void TuneSearch::TryOtherReuse(size_t of) {
  if (!Parsed(trials_[of].profile).step_caching.is_enabled) return;
  TuneChoice other = choices_[of];
  other.reuse = StepReuse::kExtrapolate;
  IsAlike(other);
}

void TuneSearch::TryOtherMerge(size_t of) {
  const SparsityConfig config = Parsed(trials_[of].profile);
  if (!config.attn.is_enabled) return;
  const bool is_lse = config.attn.merge == AttentionMerge::kLse;
  TuneChoice other = choices_[of];
  other.merge = is_lse ? AttentionMerge::kAdditive : AttentionMerge::kLse;
  IsAlike(other);
}

}  // namespace tamias
