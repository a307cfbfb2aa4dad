// Tuning the demo model, a few steps of a small picture.
#include "tamias/tune.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <limits>
#include <set>

#include "tamias/error.h"
#include "tests/support/linked_model.h"

namespace tamias {
namespace {

using ::testing::HasSubstr;

TuneOptions Small() {
  TuneOptions options;
  options.generate.prompt = "a large red circle at the center on a grey background";
  options.generate.width = options.generate.height = 64;
  options.generate.steps = 6;
  options.generate.threads = 1;
  options.min_psnr = 0;
  return options;
}

TEST(Tune, TellsOfEveryRunAndEveryTrial) {
  const Pipeline pipeline(kDemoModel);
  TuneOptions options = Small();
  options.prompts = {options.generate.prompt,
                     "a small blue heart at the top on a white background"};
  options.generate.overrides = {"attn.is_enabled=false", "mlp.is_enabled=false"};
  std::vector<std::string> told;
  std::set<std::string> runs;
  options.on_trial = [&](const TuneTrial& trial) { told.push_back(trial.name); };
  options.on_progress = [&](const TuneProgress& at) {
    EXPECT_EQ(at.num_prompts, 2u);
    EXPECT_LT(at.prompt, 2u);
    runs.insert(at.run);
    return true;
  };
  const TuneResult result = Tune(pipeline, options);
  std::vector<std::string> names;
  for (const TuneTrial& trial : result.trials) names.push_back(trial.name);
  names.push_back(result.fewer_steps.name);
  EXPECT_EQ(told, names);
  EXPECT_TRUE(runs.contains("dense"));
  for (const std::string& name : names) EXPECT_TRUE(runs.contains(name)) << name;
  EXPECT_GT(result.seconds_dense, 0);
  EXPECT_TRUE(result.fastest().is_alike);
  EXPECT_GE(result.fastest().psnr, options.min_psnr);
  EXPECT_THAT(result.fastest().profile, HasSubstr("skip_step_schedule"));
  EXPECT_THAT(result.fewer_steps.name, HasSubstr("plain steps"));
  EXPECT_EQ(result.fewer_steps.profile, "");
  for (const TuneTrial& trial : result.trials) {
    EXPECT_LE(result.fastest().seconds, trial.is_alike ? trial.seconds : 1e9);
    EXPECT_EQ(trial.attention_sparsity, 0) << "the fixed keys stay";
  }
}

TEST(Tune, StopsWhenAskedTo) {
  const Pipeline pipeline(kDemoModel);
  TuneOptions options = Small();
  options.on_progress = [](const TuneProgress& at) { return at.run == "dense"; };
  EXPECT_NE(ErrorOf([&] { Tune(pipeline, options); }, ErrorCode::kCancelled), "");
}

TEST(Tune, RefusesWhatCannotBeTuned) {
  const Pipeline pipeline(kDemoModel);
  const auto error = [&](const auto& change) {
    TuneOptions options = Small();
    options.on_progress = [](const TuneProgress&) -> bool { throw std::logic_error("it runs"); };
    change(options);
    return ArgumentErrorOf([&] { Tune(pipeline, options); });
  };
  EXPECT_EQ(error([](TuneOptions& options) { options.generate.sparsity = "off"; }),
            "sparsity: 'off' leaves nothing to tune");
  EXPECT_EQ(error([](TuneOptions& options) { options.min_psnr = -3; }),
            "min_psnr: expected a number from 0 to 99, found -3");
  EXPECT_NE(error([](TuneOptions& options) {
              options.min_psnr = std::numeric_limits<double>::quiet_NaN();
            }),
            "");
  EXPECT_THAT(error([](TuneOptions& options) { options.generate.steps = 0; }), HasSubstr("steps"));
}

TEST(Tune, SaysThatNoSettingKeepsTheFloor) {
  const Pipeline pipeline(kDemoModel);
  TuneOptions options = Small();
  options.min_psnr = 98.5;
  options.generate.overrides = {"attn.is_enabled=false", "mlp.is_enabled=false"};
  double nearest = 0;
  options.on_trial = [&](const TuneTrial& trial) { nearest = std::max(nearest, trial.psnr); };
  const std::string error = ArgumentErrorOf([&] { Tune(pipeline, options); });
  EXPECT_THAT(error, HasSubstr("min_psnr: no setting reaches 98.5 dB with 6 steps; "));
  EXPECT_THAT(error, HasSubstr(fmt::format(" reached {:.1f} dB", nearest)));
}

}  // namespace
}  // namespace tamias
