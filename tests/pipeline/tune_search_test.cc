// The order of trials, on a model that is made up: what a setting costs and how alike it is are
// formulas.
#include "pipeline/tune_search.h"

#include <gmock/gmock.h>

#include <set>

namespace tamias {
namespace {

class MadeUpModel {
 public:
  double min_psnr = 30;
  std::vector<std::string> fixed;                     // assignments that come last
  double gain_of_extrapolation = 0, gain_of_lse = 0;  // dB
  std::vector<TuneChoice> runs;

  TuneSearch Search() {
    return TuneSearch([this](const TuneChoice& choice) { return ProfileOf(choice); },
                      [this](const TuneChoice& choice, const std::string& profile) {
                        return Run(choice, profile);
                      });
  }

 private:
  std::string ProfileOf(const TuneChoice& choice) const {
    const TuneDensity& density = kTuneDensities[choice.density];
    SparsityConfig config = SparsityConfig::Dense();
    config.step_caching.is_enabled = choice.period > 0;
    config.step_caching.reuse = choice.reuse;
    config.step_caching.skip_step_schedule.clear();
    for (int step = 0; step < 60; ++step) {
      if (step % kTunePeriods[choice.period] != 0) {
        config.step_caching.skip_step_schedule.insert(step);
      }
    }
    config.attn.is_enabled = config.mlp.is_enabled = density.columns < 1;
    config.attn.top_keys = density.columns;
    config.mlp.top_keys = density.neurons;
    if (choice.merge) config.attn.merge = *choice.merge;
    for (const std::string& one : fixed) Apply(config, one);
    return config.IsAnythingEnabled() ? WriteYaml(config) : "";
  }

  TuneTrial Run(const TuneChoice& choice, const std::string& profile) {
    runs.push_back(choice);
    const SparsityConfig config = ParseSparsityConfig(profile, "made up");
    TuneTrial trial;
    trial.profile = profile;
    const double period = config.step_caching.is_enabled ? kTunePeriods[choice.period] : 1;
    const double columns = config.attn.is_enabled ? config.attn.top_keys : 1;
    const double neurons = config.mlp.is_enabled ? config.mlp.top_keys : 1;
    trial.seconds = (1 + 4 * columns + 5 * neurons) / period;
    trial.psnr = 50 - 5 * (period - 1) - 10 * (1 - columns) - 5 * (1 - neurons);
    if (config.step_caching.reuse == StepReuse::kExtrapolate) trial.psnr += gain_of_extrapolation;
    if (config.attn.merge == AttentionMerge::kLse) trial.psnr += gain_of_lse;
    trial.is_alike = trial.psnr >= min_psnr;
    return trial;
  }
};

TEST(TuneSearch, FindsTheFastestOfTheTable) {
  for (double floor = 20; floor <= 45; floor += 0.5) {
    SCOPED_TRACE(floor);
    MadeUpModel model;
    model.min_psnr = floor;
    TuneSearch search = model.Search();
    const std::optional<size_t> fastest = search.FindFastest();
    ASSERT_TRUE(fastest);
    EXPECT_LE(search.trials().size(), 11u);
    double best = 1e9;
    for (size_t period = 0; period < kTunePeriods.size(); ++period) {
      for (size_t density = 0; density < kTuneDensities.size(); ++density) {
        if (period == 0 && density == 0) continue;
        const auto [columns, neurons] = kTuneDensities[density];
        const double psnr =
            50 - 5 * (kTunePeriods[period] - 1) - 10 * (1 - columns) - 5 * (1 - neurons);
        const double seconds = (1 + 4 * columns + 5 * neurons) / kTunePeriods[period];
        if (psnr >= floor) best = std::min(best, seconds);
      }
    }
    EXPECT_DOUBLE_EQ(search.trials()[*fastest].seconds, best);
    EXPECT_TRUE(search.trials()[*fastest].is_alike);
  }
}

TEST(TuneSearch, NothingIsFoundWhereNothingIsAlike) {
  MadeUpModel model;
  model.min_psnr = 60;
  TuneSearch search = model.Search();
  EXPECT_FALSE(search.FindFastest());
  EXPECT_EQ(search.trials().size(), 5u);  // periods 5 to 2, and the first deltas
}

TEST(TuneSearch, OtherFormsAreTriedOnTheFastest) {
  MadeUpModel model;
  model.gain_of_extrapolation = model.gain_of_lse = 1;
  TuneSearch search = model.Search();
  search.FindFastest();
  ASSERT_GE(model.runs.size(), 2u);
  EXPECT_EQ(model.runs[model.runs.size() - 2].reuse, StepReuse::kExtrapolate);
  EXPECT_EQ(model.runs.back().merge, AttentionMerge::kLse);
}

std::set<std::string> SettingsOf(const std::vector<TuneTrial>& trials) {
  std::set<std::string> settings;
  for (const TuneTrial& trial : trials) {
    settings.insert(SettingInForce(ParseSparsityConfig(trial.profile, "made up")));
  }
  return settings;
}

TEST(TuneSearch, NoSettingRunsTwice) {
  for (const std::vector<std::string>& fixed : std::vector<std::vector<std::string>>{
           {},
           {"attn.top_keys=0.5", "mlp.top_keys=0.5"},
           // Densities then differ only in the columns of an attention that is off.
           {"attn.is_enabled=false", "mlp.top_keys=0.5"},
           {"attn.is_enabled=false", "mlp.is_enabled=false"},
           {"step_caching.is_enabled=false"},
           {"step_caching.is_enabled=false", "attn.is_enabled=false", "mlp.top_keys=0.5",
            "mlp.is_enabled=true"}}) {
    SCOPED_TRACE(fixed.empty() ? "" : fixed.back());
    MadeUpModel model;
    model.fixed = fixed;
    TuneSearch search = model.Search();
    ASSERT_TRUE(search.FindFastest());
    EXPECT_EQ(SettingsOf(search.trials()).size(), search.trials().size());
  }
}

TEST(TuneSearch, OneSettingIsOneTrial) {
  MadeUpModel model;
  model.fixed = {"step_caching.is_enabled=false", "attn.is_enabled=false", "mlp.is_enabled=true",
                 "mlp.top_keys=0.5"};
  TuneSearch search = model.Search();
  EXPECT_EQ(search.FindFastest(), 0u);
  EXPECT_EQ(search.trials().size(), 1u);
}

}  // namespace
}  // namespace tamias
